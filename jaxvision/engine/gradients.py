"""The gradients of a global batch, of which a device has some examples."""

from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
from jax import Array

from jaxvision.core import (
    AXIS,
    Keys,
    Task,
    Terms,
    TrainState,
    divide,
    sum_terms,
)
from jaxvision.engine import keys as streams
from jaxvision.engine.keys import example_keys, global_index, stream_key
from jaxvision.engine.parallel import check_batch_size
from jaxvision.engine.selection import Selection, join

Shares = dict[str, Array]
"""What some examples contribute to each loss term: name -> f32[]."""

Gradients = tuple[Any, tuple[Shares, Terms, dict[str, Any]]]
"""(gradients, (shares, metrics, changed statistics)); the first three are of some examples."""


def device_gradients(
    task: Task, selection: Selection, *, accumulate: int = 1
) -> Callable[[TrainState, Any, Array], Gradients]:
    """The gradients as one device computes them, within the mapped axis `AXIS`.

    The totals of the device's examples are divided by the weights of the global batch, so that the
    sum of the gradients over the devices is the gradient of the global batch.

    With `accumulate` the examples are taken in so many parts, one after the other, and in memory
    are the activations of one. Part k has the examples whose index in the global batch is k modulo
    `accumulate`, so the parts are the same on any number of devices. A pass over all parts before
    the one with gradients finds the weights of the global batch. It is the forward pass and the
    loss, of which only the weights are kept: the compiler leaves out whatever they do not depend
    on, by its elimination of dead code. Where they follow from the targets (a weight of 1, a count
    of pixels, of objects or of matched anchors), that is the whole network, and the pass costs next
    to nothing. Where they follow from the outputs (proposals that are sampled from them), the
    network runs forward once more: about a third more FLOPs.

    Args:
      task: what is trained.
      selection: which parameters have gradients.
      accumulate: number of parts.
    Returns:
      (state, batch, seed) -> (gradients, (shares, metrics, statistics)): this device's part of the
      gradients, of the loss terms and of the sums of the metrics, and the changed statistics.
    """

    def compute(state: TrainState, batch: Any, seed: Array) -> Gradients:
        def key_of(stream: int) -> Array:
            return jax.random.fold_in(stream_key(seed, stream), state.step)

        device_key = jax.random.fold_in(key_of(streams.DEVICE), jax.lax.axis_index(AXIS))

        def prepared(batch: Any, index: Array, device_key: Array) -> tuple[Any, Keys, Array]:
            """(batch, keys of the forward pass, keys of the loss), after the augmentation."""

            def keys_of(stream: int) -> Array:
                return example_keys(key_of(stream), index)

            def augment(key: Array, example: Any) -> Any:
                return task.prepare(task.augment(key, example))

            batch = jax.vmap(augment)(keys_of(streams.AUGMENT), batch)
            if task.perturb is not None:
                device = jax.random.fold_in(device_key, streams.PERTURB)
                keys = Keys(keys_of(streams.PERTURB), device)
                batch = task.perturb(state.variables, batch, keys=keys, step=state.step)
            return batch, Keys(keys_of(streams.FORWARD), device_key), keys_of(streams.LOSS)

        # What is frozen is no argument of the loss: no gradient is computed for it, nor for what
        # comes before the first layer that is trained.
        trained, frozen = selection.split(state.params)

        def run(trained: Any, statistics: Any, examples: tuple[Any, Keys, Array]) -> Any:
            """(loss terms, their weights alone, metrics, changed statistics) of some examples."""
            batch, forward_keys, loss_keys = examples

            def example_loss(outputs: Any, example: Any, key: Array) -> Terms:
                return task.loss(outputs, example, key=key, step=state.step)

            outputs, changed = task.forward(
                {"params": join(trained, frozen), **statistics},
                batch,
                keys=forward_keys,
                step=state.step,
                train=True,
            )
            terms = sum_terms(jax.vmap(example_loss)(outputs, batch, loss_keys), batch.mask)
            chex.assert_rank(jax.tree.leaves(terms), 0)
            weights = {name: jax.lax.stop_gradient(weight) for name, (_, weight) in terms.items()}
            metrics = sum_terms(jax.vmap(task.metrics)(outputs, batch), batch.mask)
            return terms, weights, metrics, changed

        def objective(
            trained: Any, statistics: Any, examples: Any, weights: Any = None
        ) -> tuple[Array, Any]:
            terms, own, metrics, changed = run(trained, statistics, examples)
            weights = jax.lax.psum(own, AXIS) if weights is None else weights
            shares = {name: divide(total, weights[name]) for name, (total, _) in terms.items()}
            return sum(shares.values()), (shares, metrics, changed)

        differentiate = jax.grad(objective, has_aux=True)
        index = global_index(len(batch.mask))
        devices = jax.lax.axis_size(AXIS)
        check_batch_size(devices * len(batch.mask), devices, accumulate)
        if accumulate == 1:
            return differentiate(trained, state.statistics, prepared(batch, index, device_key))

        part_of = partial(_part_of, (batch, index), accumulate)

        def examples_of(number: Array) -> tuple[Any, Keys, Array]:
            return prepared(*part_of(number), jax.random.fold_in(device_key, number))

        def weigh(statistics: Any, number: Array) -> tuple[Any, Any]:
            _, weights, _, changed = run(trained, statistics, examples_of(number))
            return {**statistics, **changed}, weights

        def add(sums: tuple[Any, Any], number: Array) -> tuple[Any, Any]:
            gradients, statistics = sums
            more, (shares, metrics, changed) = differentiate(
                trained, statistics, examples_of(number), weights
            )
            gradients = jax.tree.map(jnp.add, gradients, more)
            return (gradients, {**statistics, **changed}), (shares, metrics)

        numbers = jnp.arange(accumulate)
        _, weights = jax.lax.scan(weigh, state.statistics, numbers)
        weights = jax.lax.psum(_sum_of(weights), AXIS)
        start = jax.tree.map(jnp.zeros_like, trained), state.statistics
        (gradients, statistics), of_parts = jax.lax.scan(add, start, numbers)
        shares, metrics = _sum_of(of_parts)
        return gradients, (shares, metrics, statistics)

    return compute


def _part_of(batch: Any, parts: int, number: Array) -> Any:
    """The examples k, k + parts, ... of a batch, of which each leaf has a leading axis."""

    def part(x: Array) -> Array:
        x = x.reshape(len(x) // parts, parts, *x.shape[1:])
        return jax.lax.dynamic_index_in_dim(x, number, axis=1, keepdims=False)

    return jax.tree.map(part, batch)


def _sum_of(parts: Any) -> Any:
    return jax.tree.map(lambda x: x.sum(axis=0), parts)
