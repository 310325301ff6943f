"""Functions that the experiments share: images of CIFAR-10, training and drawing of curves."""

import argparse
import functools
import pathlib
import sys

import jax
import numpy as np
import optax
from matplotlib.figure import Figure
from tqdm import trange

from jaxvision.models import create_model

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from timing import machine

MOMENTUM, WEIGHT_DECAY = 0.9, 1e-4


def parser(doc, *, widths, steps=None):
    """Creates a parser of the options of every experiment; `steps` is for those that train."""
    options = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument(
        "--data", required=True, help="an npz with train_x [N, 32, 32, 3] uint8 and train_y [N]"
    )
    if steps is not None:
        options.add_argument("--steps", type=int, default=steps)
    options.add_argument("--batch", type=int, default=128)
    options.add_argument("--widths", type=int, nargs=3, default=list(widths))
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument(
        "--picture", type=pathlib.Path, help="file to draw to; default: no picture"
    )
    return options


def cifar(path):
    """Reads (images f32[N, 32, 32, 3], standardised by channel, labels i32[N])."""
    try:
        with np.load(path) as file:
            images, labels = file["train_x"], file["train_y"]
    except (OSError, KeyError) as error:
        raise SystemExit(f"{path}: {error}; give an npz with train_x and train_y") from error
    images = images.astype(np.float32)
    axes = (0, 1, 2)
    return (images - images.mean(axes)) / images.std(axes), labels.astype(np.int32).ravel()


@functools.partial(jax.jit, static_argnums=0)
def start(model, images, seed):
    """Returns the initial (params, other variables) of a network."""
    variables = model.init(jax.random.key(seed), images, train=False)
    return variables.pop("params"), variables


def mean_loss(model, params, others, images, labels):
    """Returns (cross entropy in training, other variables after it)."""
    maps, others = model.apply(
        {"params": params, **others}, images, train=True, mutable=["batch_stats"]
    )
    losses = optax.softmax_cross_entropy_with_integer_labels(maps["logits"], labels)
    return losses.mean(), others


class Training:
    """Trains a network by SGD with momentum and weight decay.

    The step is compiled once for all learning rates and seeds.

    Args:
      model: network that returns "logits" [B, K].
      images: f32[N, H, W, C].
      labels: i32[N].
    """

    def __init__(self, model, images, labels):
        self._model, self._images, self._labels = model, images, labels
        self._tx = optax.chain(optax.add_decayed_weights(WEIGHT_DECAY), optax.trace(decay=MOMENTUM))

        @functools.partial(jax.jit, donate_argnums=0)
        def step(state, images, labels, rate):
            params, others, opt_state = state
            objective = jax.value_and_grad(functools.partial(mean_loss, model), has_aux=True)
            (loss, others), grads = objective(params, others, images, labels)
            updates, opt_state = self._tx.update(grads, opt_state, params)
            params = jax.tree.map(lambda x, update: x - rate * update, params, updates)
            return (params, others, opt_state), loss

        self._step = step

    def losses(self, *, steps, batch, rate, seed):
        """Trains and returns the training loss of each step: f32[steps].

        The learning rate is divided by 10 after half of the steps. Each epoch has a new order of
        images. There is no augmentation.
        """
        params, others = start(self._model, self._images[:1], seed)
        state, rng = (params, others, self._tx.init(params)), np.random.default_rng(seed)
        order, found = [], []
        for number in trange(steps, desc=f"seed {seed}", leave=False, disable=None):
            if len(order) < batch:
                order = rng.permutation(len(self._images))
            now, order = order[:batch], order[batch:]
            now_rate = np.float32(rate if number < steps // 2 else rate / 10)
            state, loss = self._step(state, self._images[now], self._labels[now], now_rate)
            found.append(loss)
        return np.array(found)

    def losses_of_seeds(self, options, rate):
        """Returns the losses of each seed, f32[seeds, steps], and the mean of their last tenth."""
        how = {"steps": options.steps, "batch": options.batch, "rate": rate}
        losses = np.stack([self.losses(seed=seed, **how) for seed in range(options.seeds)])
        return losses, losses[:, -max(1, options.steps // 10) :].mean(axis=1)


def network(name, options, **fields):
    return create_model(name, widths=tuple(options.widths), **fields)


def draw(path, curves, *, x, y, log=False):
    """Draws a line for each curve, the mean over its rows, and the range from least to largest.

    Args:
      path: path of the picture, or None.
      curves: name -> f[rows, points].
      x: label of the points.
      y: label of the values.
      log: whether values have a logarithmic scale.
    """
    if path is None:
        return
    figure = Figure(figsize=(8.5, 4.2), layout="constrained")
    axes = figure.subplots()
    for name, rows in curves.items():
        points = np.arange(1, rows.shape[1] + 1)
        (line,) = axes.plot(points, rows.mean(axis=0), label=name)
        axes.fill_between(
            points, rows.min(axis=0), rows.max(axis=0), color=line.get_color(), alpha=0.15
        )
    axes.set(xlabel=x, ylabel=y, **({"yscale": "log"} if log else {}))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper")
    figure.savefig(path, dpi=110)
    print(f"wrote {path}")


def smoothed(losses, window):
    """Computes moving averages: [rows, steps] -> [rows, steps - window + 1]."""
    window = min(window, losses.shape[1])
    return np.lib.stride_tricks.sliding_window_view(losses, window, axis=1).mean(axis=-1)


def where(options):
    """Returns a line that describes the experiment and the machine."""
    steps = f"{options.steps} steps, " if "steps" in options else ""
    return (
        f"{steps}batches of {options.batch}, widths {options.widths}, {options.seeds} seeds; "
        f"{machine('flax', 'optax')}"
    )
