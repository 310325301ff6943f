"""Torchvision's classifiers and segmenters beside ours, at their published sizes, as a table.

  python -m tests.models.torchvision_table [--only 'resnet*' ...] >> FILE

For each network: parameters of both; multiply-adds of ours, and torchvision's figure (which it
calls GFLOPS); and how far the logits are off, in parts of the largest, for 2 images of noise and
random weights with statistics near what the layers see: in float32, with ours in bfloat16, and in
float32 at a second size of images, if the network takes one. Ours take torch's state dict, and give
it back whole. Segmenters have their second head. It ends at the first network that does not hold.
Needs torch and torchvision, and 13 GB of memory. The last line says where it ran.
"""

import gc
import importlib.metadata
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.interop import from_state_dict, to_state_dict
from jaxvision.models import SEGMENTERS, create_model, input_size, summarize
from tests.models.parity import check_round_trip, outputs_of, settle, state_of
from tests.models.tables import asked_for
from tests.models.variables import shapes_of
from tests.ops.parity import import_torchvision

WITH_AUX = ("googlenet", "inception_v3")
WITHOUT_AUX = ("lraspp_mobilenet_v3_large",)
OF_ONE_SIZE = ("maxvit", "vit")


def published(models, name):
    """(parameters, multiply-adds) of torchvision's table: of weights at the network's size."""
    for weights in models.get_model_weights(name):
        if name in SEGMENTERS:
            return weights.meta["num_params"], weights.meta["_ops"] * 1e9
        if weights.meta.get("min_size") is not None and weights.transforms().crop_size == [
            input_size(name)[0]
        ]:
            return weights.meta["num_params"], weights.meta["_ops"] * 1e9
    raise ValueError(f"torchvision has no figures of {name} at {input_size(name)}")


def noise(name, *sides):
    """Two images of this size for a network.

    Those for segmenters differ in brightness: some have norms of the means over an image.
    """
    images = np.random.default_rng(0).normal(size=(2, *sides, 3)).astype(np.float32)
    if name in SEGMENTERS:
        images += np.float32([-0.5, 0.5])[:, None, None, None]
    return images


def second_size(name):
    """(height, width) that a network takes too: three quarters and five eighths of its own."""
    side, _, _ = input_size(name)
    return None if name.startswith(OF_ONE_SIZE) else (side * 3 // 4 + 1, side * 5 // 8 + 1)


def head_of(name):
    """The fields with which our network has the second head of torchvision's segmenter."""
    return {"aux": True} if name in SEGMENTERS and name not in WITHOUT_AUX else {}


def check_logits(torch, models, name):
    """How far the logits are off, in parts of the largest.

    Returns:
      At the network's size in float32 and in bfloat16, and at a second size in float32 or None.

    Raises:
      ValueError: they say nothing of the images, are not finite, or are off by more than 1e-4.
    """
    options = {"init_weights": False} if name in WITH_AUX else {}
    if name in SEGMENTERS:
        options = {"weights_backbone": None, "aux_loss": name not in WITHOUT_AUX}
    theirs = models.get_model(name, **options)
    images = noise(name, *input_size(name)[:2])
    settle(torch, theirs, images)
    state = state_of(theirs)
    fields = {"aux": True} if name in WITH_AUX else head_of(name)
    build = partial(create_model, name, **fields)
    variables = from_state_dict(state, shapes_of(build(), images)[1])
    check_round_trip(state, to_state_dict(variables, model=build()))

    def off(images, dtype, bound):
        expected = outputs_of(torch, theirs, images)
        if name in SEGMENTERS:
            expected = expected["out"].transpose(0, 2, 3, 1)
        if not np.ptp(expected, axis=0).max() > 1e-3 * np.abs(expected).max():
            raise ValueError(f"the logits of {name} do not depend on the images")
        run = jax.jit(partial(build(dtype=dtype).apply, train=False))
        found = np.asarray(run(variables, images)["logits"], np.float32)
        worst = np.abs(found - expected).max() / np.abs(expected).max()
        if not worst < bound:
            raise ValueError(f"the logits of {name} in {dtype.__name__} are off by {worst:.1e}")
        return worst

    found = off(images, jnp.float32, 1e-4), off(images, jnp.bfloat16, np.inf)
    size = second_size(name)
    other = off(noise(name, *size), jnp.float32, 1e-4) if size else None
    return *found, other


def main(argv=None):
    wanted = asked_for(__doc__, argv)
    torch, models = import_torchvision("models")
    every = [*models.list_models(module=models), *models.list_models(module=models.segmentation)]
    names = list(filter(wanted, every))
    header = ["network", "input", "parameters", "G multiply-adds", "theirs"]
    header += ["logits", "bfloat16", "second size"]
    print(f"| {' | '.join(header)} |")
    print(f"|{'---|' * len(header)}")
    for name in names:
        torch.manual_seed(0)
        summary = summarize(create_model(name, **head_of(name)), input_size(name))
        params, macs = published(models, name)
        if name == "inception_v3":  # of which torchvision counts the auxiliary head's parameters
            with_aux = summarize(create_model(name, aux=True), input_size(name))
            summary = summary._replace(params=with_aux.params)
        if params != summary.params:
            sys.exit(f"{name} has {summary.params:,} parameters, torchvision's {params:,}")
        if abs(summary.macs - macs) > max(0.01 * macs, 0.006e9):
            sys.exit(f"{name} has {summary.macs:,} multiply-adds, torchvision's {macs:,}")
        height, width, _ = input_size(name)
        single, half, second = check_logits(torch, models, name)
        other = f"{second:.1e} at {'x'.join(map(str, second_size(name)))}" if second else "-"
        print(
            f"| {name} | {height}x{width} | {params:,} | {summary.macs / 1e9:.3f} | "
            f"{macs / 1e9:.3f} | {single:.1e} | {half:.1e} | {other} |",
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
