"""Compares classifiers with torchvision's: milliseconds of evaluation and of a training step.

  python benchmarks/backbones.py [--models resnet18 vgg16 ...] [--batch 8] [--rounds 5]
                                 [--dtype bfloat16] [--torch-compile] [--options NAME=VALUE ...]

The networks ("ours") have the weights of torchvision's, and there is no dropout. "forward" computes
the logits in evaluation. "train" is a training step: cross entropy, gradients, and SGD with
momentum. Before the timing, the script checks that logits, loss, and the decrease of the loss by a
step agree. Then both run alternately, each twice, and the second time is measured, which is the
time in a loop of its own. Each number is the median over the rounds. "x" is our time divided by
torchvision's: below 1 ours is faster. "compile" is the time of our compilation.

XLA's options are those of `jaxvision.models.compiler_options`; --options sets others, for all
networks. Both run on the GPU if torch has one too (torch then has channels last), else on the CPU.
With bfloat16 parameters stay float32, and torch's networks run under its autocast.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from timing import machine, median_ms
from versus_torch import (
    AGREES,
    WAYS,
    Ours,
    Torchs,
    check_agreement,
    import_torchvision,
    same_device,
    torch,
)

from jaxvision.models import compiler_options, create_model

MODELS = (
    "resnet18",
    "resnet50",
    "mobilenet_v2",
    "vgg16",
    "densenet121",
    "efficientnet_b0",
    "resnext50_32x4d",
)
CLASSES = 1000


def without_chance(name, **fields):
    """Creates our network without dropout and stochastic depth."""
    known = create_model(name).__dataclass_fields__
    off = {field: 0.0 for field in ("dropout", "drop_path") if field in known}
    return create_model(name, num_classes=CLASSES, **off, **fields)


def theirs_without_chance(models, name):
    network = models.get_model(name, num_classes=CLASSES)
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout) or type(module).__name__ == "StochasticDepth":
            module.p = 0.0
    return network


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--dtype", choices=list(AGREES), default="float32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--torch-compile", action="store_true")
    parser.add_argument("--options", nargs="*", help="NAME=VALUE of XLA, instead of the defaults")
    asked = parser.parse_args()
    same_device()
    models = import_torchvision("models")
    if models is None:
        print("torchvision is not installed: its columns are omitted")

    rng = np.random.default_rng(0)
    images = rng.normal(size=(asked.batch, asked.size, asked.size, 3)).astype(np.float32)
    labels = rng.integers(0, CLASSES, asked.batch).astype(np.int32)
    print("| network | way | ours ms | torchvision ms | x | compile s |")
    print("|---|---|---|---|---|---|")
    for name in asked.models:
        options = {way: compiler_options(name, train=way == "train") for way in WAYS}
        if asked.options is not None:
            tried = dict(item.split("=", 1) for item in asked.options)
            options = dict.fromkeys(WAYS, tried)
        model, networks = without_chance(name, dtype=jnp.dtype(asked.dtype)), {}
        state_dict = None
        if models is not None:
            torch.manual_seed(0)
            networks["torchvision"] = Torchs(
                theirs_without_chance(models, name),
                images,
                labels,
                dtype=asked.dtype,
                compiled=asked.torch_compile,
                channels_last=jax.default_backend() == "gpu",
            )
            state_dict = networks["torchvision"].state_dict()
        ours = Ours(model, images, labels, state_dict=state_dict, compiler_options=options)
        if models is not None:
            check_agreement(ours, networks["torchvision"], asked.dtype)
        networks["ours"] = ours
        calls = {(way, who): getattr(net, way) for way in WAYS for who, net in networks.items()}
        ms = median_ms(calls, rounds=asked.rounds, warmup=0, settle=1)
        for way in WAYS:
            other = ms.get((way, "torchvision"))
            figures = [f"{other:.1f}", f"{ms[way, 'ours'] / other:.2f}"] if other else ["", ""]
            row = [
                name,
                way,
                f"{ms[way, 'ours']:.1f}",
                *figures,
                f"{ours.compile_seconds[way]:.1f}",
            ]
            print(f"| {' | '.join(row)} |", flush=True)
        jax.clear_caches()
    print(
        f"batch {asked.batch}, {asked.size} x {asked.size}, {asked.dtype}, {asked.rounds} rounds; "
        f"{machine('torch', 'torchvision')}"
    )


if __name__ == "__main__":
    main()
