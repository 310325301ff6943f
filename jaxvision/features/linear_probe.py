"""Softmax regression on features that a network gave: how much of the classes is linear in them."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from jaxvision.core import InputError, at_least_float32, check_array, check_range

L2_GRID = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
"""What `choose_l2` tries."""

_PARTS = 5  # of the training set: one is held out
_MEMORY = 10  # of L-BFGS, in steps


class LinearProbe(NamedTuple):
    """A linear classifier of standardised features.

    Attributes:
      mean: f32[D], of the training set.
      scale: f32[D], its standard deviation, and 1 for a column of one value.
      kernel: f32[D, K], of the standardised features.
      bias: f32[K].
      steps: that the minimisation took.
      converged: whether it came to its end in less than `max_steps`.
    """

    mean: Array
    scale: Array
    kernel: Array
    bias: Array
    steps: int
    converged: bool

    def logits(self, features: Array) -> Array:
        """f32[N, D] -> f32[N, K].

        Raises:
          AssertionError: features has another shape or dtype.
        """
        features = check_array("features", features, ("N", len(self.mean)))
        x = (at_least_float32(features) - self.mean[None]) / self.scale[None]
        return _logits((self.kernel, self.bias), x)

    def accuracy(self, features: Array, labels: Array) -> float:
        """The share of features f32[N, D] whose label int[N] has the highest logit."""
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
    """Fits a linear classifier to all features at once; nothing is drawn at random.

    Minimises the mean cross-entropy plus l2 / 2 times the sum of the squared kernel, of features
    standardised by their own mean and standard deviation; the bias is free. The objective is
    convex. L-BFGS with a line search starts at zero, and ends when no element of the gradient is
    larger than the tolerance, when rounding lets it move no more, or after `max_steps`.

    Args:
      features: f32[N, D], at least one row.
      labels: int[N], from 0.
      num_classes: K, more than the largest label.
      l2: more than 0. scikit-learn's C is 1 / (N l2).
      tolerance: at least 0.
      max_steps: at least 1.
    Raises:
      AssertionError: an argument has another shape or dtype.
      InputError: an option, or a label, is out of range; features are not finite.
    Source: Alain and Bengio 2016 ("Understanding intermediate layers using linear classifier
      probes"); Liu and Nocedal 1989 ("On the limited memory BFGS method").
    """
    check_range("l2", l2, more_than=0)
    check_range("tolerance", tolerance, least=0)
    check_range("max_steps", max_steps, least=1)
    features = at_least_float32(check_array("features", features, ("N", "D")))
    labels = check_array("labels", labels, (len(features),), "int")
    if not len(labels):
        raise InputError("there are no features to fit a probe to: give at least one row")
    check_range("the least label", int(labels.min()), least=0)
    check_range("the largest label", int(labels.max()), less_than=num_classes)
    mean, scale = _figures(features)
    if not bool(jnp.isfinite(mean).all() & jnp.isfinite(scale).all()):
        raise InputError("the features are not all finite: look at the network and its images")
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
    """The l2 that does best on a held-out fifth: of each class every fifth example, in their order.

    Args:
      features: f32[N, D].
      labels: int[N].
      num_classes: as for `fit_linear_probe`.
      grid: what to try.
    Returns:
      (the l2, l2 -> accuracy on the fifth). Of several with the highest accuracy the largest.
    Raises:
      AssertionError, InputError: as `fit_linear_probe`; InputError also if no class has five
        examples.
    """
    numbers = np.asarray(check_array("labels", labels, ("N",), "int"))
    held = _held_out(numbers)
    if not held.any():
        raise InputError(f"no class has {_PARTS} examples, of which one could be held out: give l2")
    features = check_array("features", features, (len(held), "D"))
    fitted, left = (features[~held], numbers[~held]), (features[held], numbers[held])
    accuracy = {l2: fit_linear_probe(*fitted, num_classes, l2=l2).accuracy(*left) for l2 in grid}
    return max(accuracy, key=lambda l2: (accuracy[l2], l2)), accuracy


def _held_out(labels: np.ndarray) -> np.ndarray:
    """bool[N], of each class every fifth example."""
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        held[np.flatnonzero(labels == label)[_PARTS - 1 :: _PARTS]] = True
    return held


@jax.jit
def _figures(x: Array) -> tuple[Array, Array]:
    """Mean and scale of each column."""
    # Exact, as a mean of equal numbers need not be: their deviation would be noise, not 0.
    same = x.max(axis=0) == x.min(axis=0)
    return x.mean(axis=0), jnp.where(same, 1, x.std(axis=0))


def _logits(weights: tuple[Array, Array], x: Array) -> Array:
    kernel, bias = weights
    return jnp.matmul(x, kernel, precision=lax.Precision.HIGHEST) + bias[None]


@functools.partial(jax.jit, static_argnames=("num_classes",))
def _minimize(
    x: Array, labels: Array, num_classes: int, l2: float, *, tolerance: float, max_steps: int
) -> tuple[Array, Array, Array, Array]:
    """(kernel, bias, steps, whether it converged)."""

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
