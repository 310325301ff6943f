"""A training loop and an evaluation in a few lines, so that tasks are tested without the engine."""

import functools
import json
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxvision.core import AXIS, Keys, divide, mean_ratio, sum_terms


class Trained(NamedTuple):
    losses: np.ndarray
    variables: Any


class Measured(NamedTuple):
    metrics: dict[str, float]
    tables: dict[str, np.ndarray]
    collected: Any


def train(task, batches, devices=1, *, optimizer=None, variables=None, seed=0):
    """Trains on each of some batches, which are cut into a part for each device.

    Args:
      task: what to train.
      batches: global batches, each for a step.
      devices: how many.
      optimizer: of optax; None: SGD with momentum.
      variables: to start from; None: the task's own.
      seed: of all randomness.
    """
    optimizer = optimizer or optax.sgd(0.05, momentum=0.9)
    variables = variables or jax.jit(task.init)(jax.random.key(seed))
    state = variables, optimizer.init(variables["params"])
    update = jax.pmap(
        functools.partial(_update, task, optimizer, jax.random.key(seed)),
        axis_name=AXIS,
        in_axes=(None, None, 0),
        out_axes=None,
        devices=jax.devices()[:devices],
    )
    losses = []
    for step, batch in enumerate(batches):
        parts = jax.tree.map(lambda x: np.reshape(x, (devices, -1, *np.shape(x)[1:])), batch)
        state, loss = update(jnp.int32(step), state, parts)
        losses.append(float(loss))
    return Trained(np.array(losses), jax.device_get(state[0]))


def _update(task, optimizer, key, step, state, batch):
    variables, opt_state = state
    key = jax.random.fold_in(key, step)
    count = len(batch.mask)
    index = jax.lax.axis_index(AXIS) * count + jnp.arange(count)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, index)
    example_keys = jax.vmap(functools.partial(jax.random.split, num=3))(keys)
    augmented = jax.vmap(lambda key, example: task.prepare(task.augment(key, example)))(
        example_keys[:, 0], batch
    )

    def objective(params):
        device = jax.random.fold_in(key, 10_000 + jax.lax.axis_index(AXIS))
        outputs, statistics = task.forward(
            {**variables, "params": params},
            augmented,
            keys=Keys(example_keys[:, 1], device),
            step=step,
            train=True,
        )

        def loss(outputs, example, key):
            return task.loss(outputs, example, key=key, step=step)

        terms = sum_terms(jax.vmap(loss)(outputs, augmented, example_keys[:, 2]), batch.mask)
        weights = {name: jax.lax.stop_gradient(weight) for name, (_, weight) in terms.items()}
        weights = jax.lax.psum(weights, AXIS)
        return sum(divide(total, weights[name]) for name, (total, _) in terms.items()), statistics

    value = jax.value_and_grad(objective, has_aux=True)(variables["params"])
    (loss, statistics), gradients = value
    loss, gradients = jax.lax.psum((loss, gradients), AXIS)
    changes, opt_state = optimizer.update(gradients, opt_state, variables["params"])
    params = optax.apply_updates(variables["params"], changes)
    return ({**variables, **statistics, "params": params}, opt_state), loss


def evaluate(task, variables, batches, records=()):
    """Evaluates on one device.

    Args:
      task: what is evaluated.
      variables: of its network.
      batches: with filler, whose `mask` is False.
      records: of all examples in order, without images, for the metric over all examples.
    """

    @jax.jit
    def run(batch):
        batch = jax.vmap(task.prepare)(batch)
        outputs, _ = task.forward(variables, batch, keys=None, step=jnp.int32(0), train=False)
        terms = sum_terms(jax.vmap(task.metrics)(outputs, batch), batch.mask)
        collected = None
        if task.dataset_metric is not None:
            collected = jax.vmap(task.dataset_metric.collect)(outputs, batch)
        return terms, collected

    sums, parts = {}, []
    for batch in batches:
        terms, collected = jax.device_get(run(batch))
        for name, pair in terms.items():
            sums[name] = sums.get(name, 0) + np.array(pair, np.float64)
        real = np.asarray(batch.mask)
        collected = jax.tree.map(lambda x, real=real: x[real], collected)
        reduce = task.dataset_metric and task.dataset_metric.reduce
        parts.append(reduce(collected) if reduce else collected)
    metrics = {name: float(mean_ratio(*pair)) for name, pair in sums.items()}
    if task.dataset_metric is None:
        return Measured(metrics, {}, None)
    collected = jax.tree.map(lambda *x: np.concatenate(x), *parts)
    numbers, tables = task.dataset_metric.summarize(collected, records)
    assert set(task.dataset_metric.names) <= numbers.keys()
    assert not numbers.keys() & metrics.keys()
    return Measured({**metrics, **numbers}, tables, collected)


def with_filler(batch, count):
    """The batch with examples of zeros at its end, which count nowhere."""
    return jax.tree.map(
        lambda x: np.concatenate([x, np.zeros((count, *np.shape(x)[1:]), np.asarray(x).dtype)]),
        batch,
    )


def as_json(task):
    """What a run's folder would have of a task, after a way through a file."""
    parts = {name: description for name, (_, description) in task.origin.items()}
    parts |= {"kind": task.kind, "class_names": list(task.class_names)}
    return json.loads(json.dumps(parts))
