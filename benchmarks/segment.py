"""Compares U-Net with the same network in torch: evaluation and a training step.

  python benchmarks/segment.py [--size 256] [--batch 2] [--rounds 7] [--dtype bfloat16]

The library's "unet" (3 channels in, 2 classes, padding "same", batch norm, transposed convolutions)
and a plain definition of it in torch have the same weights. "forward" computes the logits in
evaluation. "train" is a training step: cross entropy over the pixels, gradients, and SGD with
momentum; it donates the state. Before the timing, the script checks that logits, loss, and the
decrease of the loss by a step agree: "off by" is the largest difference divided by the largest
value. Then both run alternately, each twice, and the second time is measured, which is the time in
a loop of its own. Each number is the median over the rounds. "x" is our time divided by torch's:
below 1 ours is faster.

Both run on the GPU if torch has one too, else on the CPU. With bfloat16 parameters stay float32,
and torch's network runs under its autocast. "compile" is the time of our compilation.
"""

import argparse
import itertools

import jax.numpy as jnp
import numpy as np
from timing import machine, median_ms
from versus_torch import AGREES, WAYS, Ours, Torchs, check_agreement, same_device, torch

from jaxvision.models import create_model

CLASSES = 2


def torch_unet(widths):
    """Builds a plain U-Net in torch, with the names of this library's."""
    nn = torch.nn

    class Pair(nn.Module):
        def __init__(self, before, width):
            super().__init__()
            self.conv1 = nn.Conv2d(before, width, 3, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(width)

        def forward(self, x):
            x = torch.relu(self.bn1(self.conv1(x)))
            return torch.relu(self.bn2(self.conv2(x)))

    class Up(Pair):
        def __init__(self, below, width):
            super().__init__(2 * width, width)
            self.up = nn.ConvTranspose2d(below, width, 2, stride=2)

        def forward(self, x, skip):
            return super().forward(torch.cat([skip, self.up(x)], dim=1))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            for level, (before, width) in enumerate(itertools.pairwise((3, *widths))):
                self.add_module(f"encoder{level}", Pair(before, width))
            for level, (width, below) in enumerate(itertools.pairwise(widths)):
                self.add_module(f"decoder{level}", Up(below, width))
            self.head = nn.Conv2d(widths[0], CLASSES, 1)

        def forward(self, x):
            skips = []
            for level in range(len(widths)):
                x = getattr(self, f"encoder{level}")(nn.functional.max_pool2d(x, 2) if level else x)
                skips.append(x)
            for level in reversed(range(len(widths) - 1)):
                x = getattr(self, f"decoder{level}")(x, skips[level])
            return self.head(x)

    network = Net()
    for parameter in network.parameters():
        if parameter.ndim == 4:  # so that every layer counts in the comparison
            nn.init.kaiming_normal_(parameter)
    return network


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128, 256, 512, 1024])
    parser.add_argument("--dtype", choices=list(AGREES), default="float32")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    same_device()

    rng = np.random.default_rng(0)
    images = rng.normal(size=(options.batch, options.size, options.size, 3)).astype(np.float32)
    labels = rng.integers(0, CLASSES, images.shape[:3]).astype(np.int32)
    dtype, widths = options.dtype, tuple(options.widths)
    model = create_model("unet", widths=widths, num_classes=CLASSES, dtype=jnp.dtype(dtype))
    if torch is None:
        print("torch is not installed: its columns are omitted")
        networks = {"ours": Ours(model, images, labels)}
    else:
        torch.manual_seed(0)
        theirs = Torchs(torch_unet(widths), images, labels, dtype=dtype)
        ours = Ours(model, images, labels, state_dict=theirs.state_dict())
        off = check_agreement(ours, theirs, dtype)
        print("off by: " + ", ".join(f"{name} {value:.1e}" for name, value in off.items()))
        networks = {"ours": ours, "torch": theirs}

    calls = {
        (way, name): getattr(network, way) for way in WAYS for name, network in networks.items()
    }
    ms = median_ms(calls, rounds=options.rounds, warmup=0, settle=1)
    titles = "".join(f"{name + ': ms':>13}   images/s" for name in networks)
    print(f"{'':<9}{titles}       x   compile s")
    for way in WAYS:
        figures = "".join(
            f"{ms[way, name]:>13.1f} {1e3 * options.batch / ms[way, name]:>10.2f}"
            for name in networks
        )
        ratio = f"{ms[way, 'ours'] / ms[way, 'torch']:.2f}" if "torch" in networks else ""
        print(f"{way:<9}{figures}{ratio:>8}{networks['ours'].compile_seconds[way]:>12.1f}")
    sizes = f"batch {options.batch}, {options.size} x {options.size}, widths {options.widths}"
    print(f"{sizes}, {options.dtype}, {options.rounds} rounds; {machine('torch')}")


if __name__ == "__main__":
    main()
