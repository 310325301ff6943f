"""U-Net, forward and a training step, beside the same network in torch: images a second.

  python benchmarks/segment.py [--size 256] [--batch 2] [--rounds 7] [--dtype bfloat16]

The library's "unet" (3 channels in, 2 classes, padding "same", batch norm, transposed convolutions)
and a plain definition of it in torch, with torch's weights in both. "forward" is the logits of an
evaluation. "train" is a step: cross entropy over the pixels, gradients, and SGD with momentum,
whose state is donated. Before anything is timed the logits must agree, and the losses of two steps:
"off by" is the largest difference over the largest value. Then all run in turns, and a figure is
the median over the rounds. "x" is our time over torch's: below 1 ours is faster.

Both run on the GPU if torch sees one too, else on the CPU. In bfloat16 parameters stay float32, and
torch's network runs under its autocast. "compile" is what the compiler takes for ours, once.
"""

import argparse
import functools
import itertools
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from timing import machine, median_ms

from jaxvision.interop import from_state_dict
from jaxvision.models import create_model

try:
    import torch
except ImportError:
    torch = None

CLASSES, LEARNING_RATE, MOMENTUM = 2, 0.01, 0.9
# What rounding may do. A GPU multiplies float32 with 10 bits.
AGREES = {"float32": 0.01, "bfloat16": 0.1}


class Ours:
    """The library's network, compiled."""

    def __init__(self, images, labels, *, widths, dtype, state_dict=None):
        model = create_model("unet", widths=widths, num_classes=CLASSES, dtype=jnp.dtype(dtype))
        tx = optax.sgd(LEARNING_RATE, momentum=MOMENTUM)

        def forward(params, statistics, images):
            variables = {"params": params, "batch_stats": statistics}
            return model.apply(variables, images, train=False)["logits"]

        def step(params, statistics, opt_state, images, labels):
            def objective(params):
                maps, changed = model.apply(
                    {"params": params, "batch_stats": statistics},
                    images,
                    train=True,
                    mutable=["batch_stats"],
                )
                logits = maps["logits"].astype(jnp.float32)
                losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
                return losses.mean(), changed["batch_stats"]

            (loss, statistics), grads = jax.value_and_grad(objective, has_aux=True)(params)
            updates, opt_state = tx.update(grads, opt_state, params)
            return optax.apply_updates(params, updates), statistics, opt_state, loss

        init = functools.partial(model.init, train=False)
        if state_dict is None:
            variables = jax.jit(init)(jax.random.key(0), images)
        else:
            variables = from_state_dict(state_dict, jax.eval_shape(init, jax.random.key(0), images))
        variables = jax.device_put(variables)
        params = variables["params"]
        self._state = params, variables["batch_stats"], tx.init(params)
        self._images, self._labels = jax.device_put((images, labels))
        self.compile_seconds = {}
        self._forward = self._compiled("forward", jax.jit(forward), *self._state[:2], self._images)
        self._step = self._compiled(
            "train",
            jax.jit(step, donate_argnums=(0, 1, 2)),
            *self._state,
            self._images,
            self._labels,
        )

    def _compiled(self, name, jitted, *args):
        lowered = jitted.lower(*args)
        began = time.perf_counter()
        compiled = lowered.compile()
        self.compile_seconds[name] = time.perf_counter() - began
        return compiled

    def forward(self):
        """Logits [B, H, W, K]."""
        return jax.block_until_ready(self._forward(*self._state[:2], self._images))

    def train(self):
        """The loss before the step."""
        *self._state, loss = jax.block_until_ready(
            self._step(*self._state, self._images, self._labels)
        )
        return loss


class Torchs:
    """The same in torch, with its own initial weights."""

    def __init__(self, images, labels, *, widths, dtype):
        torch.manual_seed(0)
        self._device = "cuda" if jax.default_backend() == "gpu" else "cpu"
        self._autocast = functools.partial(
            torch.autocast, self._device, torch.bfloat16, enabled=dtype == "bfloat16"
        )
        self._network = torch_unet(widths).to(self._device)
        self._optimizer = torch.optim.SGD(self._network.parameters(), LEARNING_RATE, MOMENTUM)
        self._images = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(self._device)
        self._labels = torch.from_numpy(labels).long().to(self._device)

    def state_dict(self):
        """Copies, in numpy."""
        state = self._network.state_dict()
        return {key: value.cpu().numpy().copy() for key, value in state.items()}

    def forward(self):
        """Logits [B, H, W, K]."""
        self._network.eval()
        with torch.no_grad(), self._autocast():
            logits = self._network(self._images)
        self._wait()
        return logits.permute(0, 2, 3, 1)

    def train(self):
        """The loss before the step."""
        self._network.train()
        self._optimizer.zero_grad()
        with self._autocast():
            logits = self._network(self._images)
        loss = torch.nn.functional.cross_entropy(logits.float(), self._labels)
        loss.backward()
        self._optimizer.step()
        self._wait()
        return loss.detach()

    def _wait(self):
        if self._device == "cuda":
            torch.cuda.synchronize()


def torch_unet(widths):
    """U-Net as one writes it in torch, with the names of ours."""
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


def off_by(ours, theirs):
    """The largest difference over the largest value."""
    ours, theirs = np.asarray(ours, np.float32), theirs.float().cpu().numpy()
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


def check_agreement(ours, theirs, dtype):
    """Ends the program if the networks are not the same."""
    off = {
        "logits": off_by(ours.forward(), theirs.forward()),
        "first loss": off_by(ours.train(), theirs.train()),
        "second loss": off_by(ours.train(), theirs.train()),
    }
    print("off by: " + ", ".join(f"{name} {value:.1e}" for name, value in off.items()), flush=True)
    if not max(off.values()) <= AGREES[dtype]:
        raise SystemExit(f"the networks differ by more than {AGREES[dtype]}")


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
    if torch is not None and not torch.cuda.is_available():
        jax.config.update("jax_platforms", "cpu")

    rng = np.random.default_rng(0)
    images = rng.normal(size=(options.batch, options.size, options.size, 3)).astype(np.float32)
    labels = rng.integers(0, CLASSES, images.shape[:3]).astype(np.int32)
    network = {"widths": tuple(options.widths), "dtype": options.dtype}
    if torch is None:
        print("torch is not installed: its columns are left out")
        networks = {"ours": Ours(images, labels, **network)}
    else:
        theirs = Torchs(images, labels, **network)
        ours = Ours(images, labels, **network, state_dict=theirs.state_dict())
        check_agreement(ours, theirs, options.dtype)
        networks = {"ours": ours, "torch": theirs}

    ways = ("forward", "train")
    calls = {
        (way, name): getattr(network, way) for way in ways for name, network in networks.items()
    }
    ms = median_ms(calls, rounds=options.rounds, warmup=1)
    titles = "".join(f"{name + ': ms':>13}   images/s" for name in networks)
    print(f"{'':<9}{titles}       x   compile s")
    for way in ways:
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
