"""Fits linear classifiers to features, which shows how well the classes are linear in them."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from jaxvision.core import InputError, at_least_float32, check_array, check_range
from jaxvision.features.features import Features

L2_GRID = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
"""The numbers that `choose_l2` tries."""

_PARTS = 5  # of the training set, of which one is held out
_MEMORY = 10  # of L-BFGS, in steps


class LinearProbe(NamedTuple):
    """A linear classifier of standardised features.

    Attributes:
      mean: f32[D], of the training set.
      scale: f32[D], its standard deviation, and 1 for a column of one value.
      kernel: f32[D, K], of the standardised features.
      bias: f32[K].
      steps: of the minimisation.
      converged: whether the minimisation ended before `max_steps`.
    """

    mean: Array
    scale: Array
    kernel: Array
    bias: Array
    steps: int
    converged: bool

    def logits(self, features: Array) -> Array:
        """Computes the logits of features, f32[N, D] -> f32[N, K].

        Raises:
          AssertionError: features has another shape or dtype.
        """
        features = check_array("features", features, ("N", len(self.mean)))
        x = (at_least_float32(features) - self.mean[None]) / self.scale[None]
        return _logits((self.kernel, self.bias), x)

    def accuracy(self, features: Array, labels: Array) -> float:
        """Computes the share of features f32[N, D] whose label int[N] has the highest logit."""
        found = jnp.argmax(self.logits(features), axis=1)
        right = found == check_array("labels", labels, (len(found),), "int")
        return np.asarray(right).mean().item()


def fit_linear_probe(
    features: Array,
    labels: Array,
    num_classes: int,
    *,
    l2: float,
    tolerance: float = 1e-6,
    max_steps: int = 2000,
) -> LinearProbe:
    """Fits a linear classifier to all features at once; nothing is random.

    Minimises the mean cross-entropy plus l2 / 2 times the sum of the squared kernel, of features
    standardised by their own mean and standard deviation; the bias is not penalised. The objective
    is convex. L-BFGS with a line search starts at zero, and ends when no element of the gradient is
    larger than the tolerance, when a step changes nothing because of rounding, or after
    `max_steps`.

    Args:
      features: f32[N, D], at least one row.
      labels: int[N], from 0.
      num_classes: K, more than the largest label.
      l2: more than 0. scikit-learn's C is 1 / (N l2).
      tolerance: at least 0.
      max_steps: at least 1.
    Raises:
      AssertionError: an argument has another shape or dtype.
      InputError: an option or a label is out of range, or features are not finite.
    Source: Alain and Bengio 2016 ("Understanding intermediate layers using linear classifier
      probes"); Liu and Nocedal 1989 ("On the limited memory BFGS method").
    """
    check_range("l2", l2, more_than=0)
    check_range("tolerance", tolerance, least=0)
    check_range("max_steps", max_steps, least=1)
    features = at_least_float32(check_array("features", features, ("N", "D")))
    labels = check_array("labels", labels, (len(features),), "int")
    if not len(labels):
        raise InputError("features has no rows: give at least one")
    check_range("labels", int(labels.min()), least=0)
    check_range("labels", int(labels.max()), less_than=num_classes)
    mean, scale = _statistics(features)
    if not bool(jnp.isfinite(mean).all() & jnp.isfinite(scale).all()):
        raise InputError("features are not all finite: check the network and its images")
    x = (features - mean[None]) / scale[None]
    kernel, bias, steps, converged = _minimize(
        x, labels, num_classes, l2, tolerance=tolerance, max_steps=max_steps
    )
    return LinearProbe(mean, scale, kernel, bias, int(steps), bool(converged))


def choose_l2(
    features: Array,
    labels: Array,
    num_classes: int,
    *,
    grid: tuple[float, ...] = L2_GRID,
) -> tuple[float, dict[float, float]]:
    """Chooses the l2 with the best accuracy on a fifth of the examples, which is held out.

    It is every fifth example of each class, in their order.

    Args:
      features: f32[N, D].
      labels: int[N].
      num_classes: as for `fit_linear_probe`.
      grid: the numbers to try.
    Returns:
      (the l2, l2 -> accuracy on the held-out fifth). Of several l2 with the highest accuracy, the
      largest is chosen.
    Raises:
      AssertionError, InputError: as `fit_linear_probe`; InputError also if no class has five
        examples.
    """
    numbers = np.asarray(check_array("labels", labels, ("N",), "int"))
    held = _held_out(numbers)
    if not held.any():
        raise InputError(f"no class has {_PARTS} examples, so that none can be held out: give l2")
    features = check_array("features", features, (len(held), "D"))
    fitted, left = (features[~held], numbers[~held]), (features[held], numbers[held])
    accuracy = {l2: fit_linear_probe(*fitted, num_classes, l2=l2).accuracy(*left) for l2 in grid}
    return max(accuracy, key=lambda l2: (accuracy[l2], l2)), accuracy


class Probed(NamedTuple):
    """How well a linear classifier of one map does.

    Attributes:
      dimensions: D, of the features.
      l2: with which the classifier was fitted.
      train_accuracy: on the features that it was fitted to.
      test_accuracy: on other features.
      steps: of the minimisation.
      converged: whether the minimisation ended before its last possible step.
      held_out_accuracy: l2 -> accuracy on the held-out fifth; None if l2 was given.
    """

    dimensions: int
    l2: float
    train_accuracy: float
    test_accuracy: float
    steps: int
    converged: bool
    held_out_accuracy: dict[float, float] | None


def probe_map(train: Features, test: Features, name: str, *, l2: float | None = None) -> Probed:
    """Fits a linear classifier to one map of features, and measures it on others.

    Args:
      train: with labels and `class_names`.
      test: with labels, of the same network and classes; see `check_comparable`.
      name: of the map.
      l2: as for `fit_linear_probe`; None: `choose_l2` chooses it.
    Raises:
      InputError: labels are missing, or as `fit_linear_probe` and `choose_l2`.
    """
    for given, features in (("train", train), ("test", test)):
        if features.labels is None:
            raise InputError(f"{given} has no labels: give features of images with labels")
    classes = len(train.class_names)
    x, labels = jnp.asarray(train.maps[name]), jnp.asarray(train.labels)
    tried = None
    if l2 is None:
        l2, tried = choose_l2(x, labels, classes)
    probe = fit_linear_probe(x, labels, classes, l2=l2)
    return Probed(
        dimensions=x.shape[1],
        l2=l2,
        train_accuracy=probe.accuracy(x, labels),
        test_accuracy=probe.accuracy(test.maps[name], test.labels),
        steps=probe.steps,
        converged=probe.converged,
        held_out_accuracy=tried,
    )


def _held_out(labels: np.ndarray) -> np.ndarray:
    """Marks every fifth example of each class: bool[N]."""
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        held[np.flatnonzero(labels == label)[_PARTS - 1 :: _PARTS]] = True
    return held


@jax.jit
def _statistics(x: Array) -> tuple[Array, Array]:
    """Computes mean and scale of each column."""
    # The mean of equal numbers is not always exact; then their deviation would not be 0.
    same = x.max(axis=0) == x.min(axis=0)
    return x.mean(axis=0), jnp.where(same, 1, x.std(axis=0))


def _logits(weights: tuple[Array, Array], x: Array) -> Array:
    """Computes the logits f32[N, K] of standardised features f32[N, D]."""
    kernel, bias = weights
    return jnp.matmul(x, kernel, precision=lax.Precision.HIGHEST) + bias[None]


@functools.partial(jax.jit, static_argnames=("num_classes",))
def _minimize(
    x: Array, labels: Array, num_classes: int, l2: float, *, tolerance: float, max_steps: int
) -> tuple[Array, Array, Array, Array]:
    """Minimises the objective: (kernel, bias, steps, whether it converged)."""

    def objective(weights: tuple[Array, Array]) -> Array:
        loss = optax.softmax_cross_entropy_with_integer_labels(_logits(weights, x), labels)
        return loss.mean() + l2 / 2 * (weights[0] ** 2).sum()

    solver = optax.lbfgs(memory_size=_MEMORY)
    value_and_gradient = optax.value_and_grad_from_state(objective)

    def going_on(state: Any) -> Array:
        _, _, step, converged = state
        return (step < max_steps) & ~converged

    def move(state: Any) -> Any:
        weights, memory, step, _ = state
        value, gradient = value_and_gradient(weights, state=memory)
        change, memory = solver.update(
            gradient, memory, weights, value=value, grad=gradient, value_fn=objective
        )
        new = optax.apply_updates(weights, change)
        moved = optax.tree.norm(optax.tree.sub(new, weights), ord=jnp.inf)
        slope = optax.tree.norm(optax.tree.get(memory, "grad"), ord=jnp.inf)
        return new, memory, step + 1, (slope <= tolerance) | (moved == 0)

    start = (jnp.zeros((x.shape[1], num_classes), x.dtype), jnp.zeros(num_classes, x.dtype))
    state = (start, solver.init(start), jnp.int32(0), jnp.bool_(False))
    (kernel, bias), _, steps, converged = lax.while_loop(going_on, move, state)
    return kernel, bias, steps, converged
