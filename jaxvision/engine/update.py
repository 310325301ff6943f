"""The training step, for any task."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxvision.core import (
    AXIS,
    Keys,
    Task,
    Terms,
    TrainState,
    at_least_float32,
    divide,
    mean_ratio,
    merge,
    sum_terms,
)
from jaxvision.engine.optimizer import Optimizer, optimizer_after
from jaxvision.engine.parallel import Mapped, Parallel
from jaxvision.engine.selection import join

# Streams of the run's seed: nothing that is drawn in one is drawn in another.
_INIT, _AUGMENT, _FORWARD, _LOSS, _DEVICE = range(5)


def _key(seed: int, stream: int) -> Array:
    return jax.random.fold_in(jax.random.key(seed), stream)


def _initial(task: Task, optimizer: Optimizer, seed: int) -> TrainState:
    variables = dict(task.init(_key(seed, _INIT)))
    average = jax.tree.map(at_least_float32, variables) if optimizer.ema_decay else None
    params = variables.pop("params")
    return TrainState(jnp.int32(0), params, variables, optimizer.init(params), average)


def init_state(task: Task, optimizer: Optimizer, seed: int) -> TrainState:
    """The state before the first step, on one device."""
    # It runs once, so compiling is nearly all it costs, and optimising only makes that longer.
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    return jax.jit(partial(_initial, task, optimizer, seed), compiler_options=options)()


def abstract_state(task: Task, optimizer: Optimizer) -> TrainState:
    """Shapes and dtypes of the state, without computing it; what a checkpoint is restored like."""
    return jax.eval_shape(partial(_initial, task, optimizer, 0))


def with_fresh_optimizer(
    state: TrainState, optimizer: Optimizer, *, parallel: Parallel
) -> TrainState:
    """The state with that of another optimizer, as it begins, on the devices."""
    params = jax.device_get(state.params)
    return state.replace(opt_state=parallel.replicate(jax.jit(optimizer.init)(params)))


def _moved(average: Any, variables: Any, optimizer: Optimizer, steps: Array) -> Any:
    """Running means, moved towards the variables after some steps; to the bit where they are."""
    share = 1 - jnp.minimum(optimizer.ema_decay, (1 + steps) / (10 + steps))
    return jax.tree.map(
        lambda mean, x: (mean + share * (x - mean)).astype(mean.dtype), average, variables
    )


def _example_keys(key: Array, local_size: int) -> Array:
    """A key for each example of this device's part, by its index in the global batch."""
    index = jax.lax.axis_index(AXIS) * local_size + jnp.arange(local_size)
    return jax.vmap(jax.random.fold_in, (None, 0))(key, index)


def make_update(task: Task, optimizer: Optimizer, *, seed: int, parallel: Parallel) -> Mapped:
    """The training step over all devices.

    Every device computes the totals of its examples, divided by the weights of all; the sum of
    its gradients over the devices is that of the global batch, whatever the number of devices.

    Args:
      task: what to train.
      optimizer: how.
      seed: of all randomness in the step.
      parallel: the devices.
    Returns:
      (state, batch) -> (state, record); the record holds each loss term, their sum "loss", the
      task's metrics, "learning_rate" and "gradient_norm". The given state is donated. It compiles
      once for each form of batch, as multi-scale training has several.
    Raises:
      ValueError: at the first step, if two of these have the same name.
    """

    def update(state: TrainState, batch: Any) -> tuple[TrainState, dict[str, Array]]:
        def keys_of(stream: int) -> Array:
            key = jax.random.fold_in(_key(seed, stream), state.step)
            return _example_keys(key, len(batch.mask))

        augment_keys, forward_keys, loss_keys = map(keys_of, (_AUGMENT, _FORWARD, _LOSS))
        device_key = jax.random.fold_in(
            jax.random.fold_in(_key(seed, _DEVICE), state.step), jax.lax.axis_index(AXIS)
        )

        def augment(key: Array, example: Any) -> Any:
            return task.prepare(task.augment(key, example))

        batch = jax.vmap(augment)(augment_keys, batch)

        def example_loss(outputs: Any, example: Any, key: Array) -> Terms:
            return task.loss(outputs, example, key=key, step=state.step)

        # What is frozen is no argument of the loss: nothing is derived by it, nor by what lies
        # before the first layer that trains.
        trained, frozen = optimizer.selection.split(state.params)

        def objective(trained: Any) -> tuple[Array, Any]:
            outputs, statistics = task.forward(
                {"params": join(trained, frozen), **state.statistics},
                batch,
                keys=Keys(forward_keys, device_key),
                step=state.step,
                train=True,
            )
            terms = sum_terms(jax.vmap(example_loss)(outputs, batch, loss_keys), batch.mask)
            chex.assert_rank(jax.tree.leaves(terms), 0)
            weights = {name: jax.lax.stop_gradient(weight) for name, (_, weight) in terms.items()}
            weights = jax.lax.psum(weights, AXIS)
            shares = {name: divide(total, weights[name]) for name, (total, _) in terms.items()}
            metrics = sum_terms(jax.vmap(task.metrics)(outputs, batch), batch.mask)
            return sum(shares.values()), (shares, metrics, statistics)

        gradients, (shares, metrics, statistics) = jax.grad(objective, has_aux=True)(trained)
        gradients, losses, metrics = jax.lax.psum((gradients, shares, metrics), AXIS)
        loss = sum(losses.values())
        changes, opt_state = optimizer.transformation.update(
            gradients, state.opt_state, trained, value=loss
        )
        new_state = TrainState(
            step=state.step + 1,
            params=join(optax.apply_updates(trained, changes), frozen),
            statistics={**state.statistics, **statistics},
            opt_state=opt_state,
        )
        if state.average is not None:
            average = _moved(state.average, new_state.variables, optimizer, new_state.step)
            new_state = new_state.replace(average=average)
        record = merge(
            losses,
            {
                "loss": loss,
                "learning_rate": optimizer.learning_rate(opt_state, state.step),
                "gradient_norm": optax.tree.norm(gradients),
            },
            {name: mean_ratio(*pair) for name, pair in metrics.items()},
        )
        return new_state, record

    return parallel.map(update, donate_state=True)


def make_updates(
    task: Task, optimizers: Sequence[Optimizer], *, seed: int, parallel: Parallel
) -> Callable[[int, TrainState, Any], tuple[TrainState, dict[str, Array]]]:
    """The training steps of several optimizers, one after the other.

    Args:
      task: what to train.
      optimizers: in the order of their starts.
      seed: of all randomness in the steps.
      parallel: the devices.
    Returns:
      (number of the step in the run, from 1; state; batch) -> what `make_update` gives. An
      optimizer compiles, and begins with a fresh state, at its first step.
    """
    updates = [make_update(task, one, seed=seed, parallel=parallel) for one in optimizers]

    def update(step: int, state: TrainState, batch: Any) -> tuple[TrainState, dict[str, Array]]:
        optimizer = optimizer_after(optimizers, step)
        if step - 1 == optimizer.start > 0:
            state = with_fresh_optimizer(state, optimizer, parallel=parallel)
        return updates[optimizers.index(optimizer)](state, batch)

    return update
