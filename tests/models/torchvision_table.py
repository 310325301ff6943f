"""All of torchvision's classifiers beside ours, at their published sizes, as a table.

  python -m tests.models.torchvision_table [--only 'resnet*' ...] >> FILE

For each network: parameters of both; multiply-adds of ours, and torchvision's figure (which it
calls GFLOPS); and how far the logits are off, in parts of the largest, for 2 images of noise and
random weights with statistics near what the layers see, in float32, and with ours in bfloat16. Ours
take torch's state dict, and give it back whole. Needs torch and torchvision. The last line says
where it ran.
"""

import argparse
import fnmatch
import gc
import importlib.metadata
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.interop import from_state_dict, to_state_dict
from jaxvision.models import create_model, input_size, summarize
from tests.models.parity import check_round_trip, settle, to_torch
from tests.models.variables import shapes_of
from tests.ops.parity import import_torchvision

WITH_AUX = ("googlenet", "inception_v3")


def published(models, name):
    """(parameters, multiply-adds) of torchvision's table: of weights at the network's size."""
    for weights in models.get_model_weights(name):
        if weights.meta.get("min_size") is not None and weights.transforms().crop_size == [
            input_size(name)[0]
        ]:
            return weights.meta["num_params"], weights.meta["_ops"] * 1e9
    raise ValueError(f"torchvision has no figures of {name} at {input_size(name)}")


def structured_noise(shape):
    """Noise at all scales: what is finer than a deep network's filters averages out there."""
    rng, (batch, height, width, channels) = np.random.default_rng(0), shape
    images = np.zeros(shape, np.float32)
    for cell in (1, 4, 16, 64):
        coarse = rng.normal(size=(batch, -(-height // cell), -(-width // cell), channels))
        images += coarse.repeat(cell, 1).repeat(cell, 2)[:, :height, :width]
    return images / 2


def logits_off(torch, models, name):
    """How far the logits are off, in parts of the largest: in float32, and in bfloat16."""
    aux = {"init_weights": False} if name in WITH_AUX else {}
    theirs = models.get_model(name, **aux)
    fields = {"aux": True} if aux else {}
    images = structured_noise((2, *input_size(name)))
    settle(torch, theirs, images)
    with torch.no_grad():
        expected = theirs(to_torch(torch, images)).numpy()
    if not np.ptp(expected, axis=0).max() > 1e-3 * np.abs(expected).max():
        raise ValueError(f"the logits of {name} do not depend on the images")
    state = {key: value.numpy() for key, value in theirs.state_dict().items()}
    ours = create_model(name, **fields)
    variables = from_state_dict(state, shapes_of(ours, images)[1])
    check_round_trip(state, to_state_dict(variables, model=ours))

    def off(dtype):
        run = jax.jit(partial(create_model(name, dtype=dtype, **fields).apply, train=False))
        found = np.asarray(run(variables, images)["logits"], np.float32)
        if not np.isfinite(found).all():
            raise ValueError(f"the logits of {name} in {dtype.__name__} are not finite")
        return np.abs(found - expected).max() / np.abs(expected).max()

    return off(jnp.float32), off(jnp.bfloat16)


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=["*"], help="patterns of names")
    arguments = parser.parse_args(argv)
    torch, models = import_torchvision("models")
    names = [
        name
        for name in models.list_models(module=models)
        if any(fnmatch.fnmatch(name, pattern) for pattern in arguments.only)
    ]
    header = ["network", "input", "parameters", "G multiply-adds", "theirs", "logits", "bfloat16"]
    print(f"| {' | '.join(header)} |")
    print("|---|---|---|---|---|---|---|")
    for name in names:
        torch.manual_seed(0)
        summary = summarize(create_model(name), input_size(name))
        params, macs = published(models, name)
        if name == "inception_v3":  # of which torchvision counts the auxiliary head's parameters
            with_aux = summarize(create_model(name, aux=True), input_size(name))
            summary = summary._replace(params=with_aux.params)
        if params != summary.params:
            sys.exit(f"{name} has {summary.params:,} parameters, torchvision's {params:,}")
        if abs(summary.macs - macs) > max(0.01 * macs, 0.006e9):
            sys.exit(f"{name} has {summary.macs:,} multiply-adds, torchvision's {macs:,}")
        height, width, _ = input_size(name)
        single, half = logits_off(torch, models, name)
        print(
            f"| {name} | {height}x{width} | {params:,} | {summary.macs / 1e9:.3f} | "
            f"{macs / 1e9:.3f} | {single:.1e} | {half:.1e} |",
            flush=True,
        )
        jax.clear_caches()
        gc.collect()
    versions = [
        f"{x} {importlib.metadata.version(x)}" for x in ("jax", "torch", "torchvision", "numpy")
    ]
    print(f"\n{len(names)} networks on {jax.devices()[0].device_kind}; {', '.join(versions)}")


if __name__ == "__main__":
    main()
