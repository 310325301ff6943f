"""A network of three small layers, written by hand: it is traced and compiled in little time."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.core import Task
from tests.engine.sized_task import WeightedBatch

INPUTS, WIDTH = 3, 4
PARAMETERS = (INPUTS + 1) * WIDTH + 2 * WIDTH + (WIDTH + 1) * 2


def small_batches(count, batch_size=8, seed=0):
    """Batches of numbers with weights that are uneven over the devices."""
    rng = np.random.default_rng(seed)
    return [
        WeightedBatch(
            total=rng.normal(size=(batch_size, INPUTS)).astype("f4"),
            weight=np.linspace(0.1, 3, batch_size).astype("f4") ** 2,
            mask=np.ones(batch_size, bool),
        )
        for _ in range(count)
    ]


def small_task(values=None, bad_step=None):
    """Draws a function of the numbers, to which noise is added, to two targets.

    Its layers are "stem", "bn" (a scale and a bias) and "head"; a statistic counts the steps.

    Args:
      values: what the metric "score" is at the first evaluation, the second and so on, of those
        after every fourth step; None: the mean of the outputs.
      bad_step: the loss term "first" is NaN from this step on; None: it never is.
    """

    def init(key):
        rng = np.random.default_rng(0)

        def values(*shape):
            return jnp.asarray(rng.uniform(-1, 1, shape).astype("f4"))

        params = {
            "stem": {"kernel": values(INPUTS, WIDTH), "bias": values(WIDTH)},
            "bn": {"scale": values(WIDTH), "bias": values(WIDTH)},
            "head": {"kernel": values(WIDTH, 2), "bias": values(2)},
        }
        return {"params": params, "count": {"steps": jnp.int32(0)}}

    def augment(key, example):
        return example.replace(total=example.total + jax.random.uniform(key, (INPUTS,)))

    def forward(variables, batch, *, keys, step, train):
        params, steps = variables["params"], variables["count"]["steps"]
        x = jnp.tanh(batch.total @ params["stem"]["kernel"] + params["stem"]["bias"][None])
        x = x * params["bn"]["scale"][None] + params["bn"]["bias"][None]
        outputs = {"y": x @ params["head"]["kernel"] + params["head"]["bias"][None]}
        if values is not None:
            value = jnp.asarray(values, jnp.float32)[steps // 4 - 1]
            outputs["value"] = jnp.broadcast_to(value, batch.mask.shape)
        return outputs, {"count": {"steps": steps + 1}} if train else {}

    def loss(outputs, example, *, key, step):
        error = ((outputs["y"] - jnp.array([1.0, -1.0])) ** 2).sum()
        first = 0.1 * outputs["y"][0]
        if bad_step is not None:
            first = jnp.where(step + 1 >= bad_step, jnp.nan, first)
        return {"square": (error * example.weight, example.weight), "first": (first, 1.0)}

    def metrics(outputs, example):
        score = outputs["y"].mean() if values is None else outputs["value"]
        return {"score": (score, jnp.float32(1))}

    return Task(
        init=init,
        augment=augment,
        prepare=lambda example: example,
        forward=forward,
        loss=loss,
        metrics=metrics,
        decode=lambda outputs, example: outputs["y"],
        kind="numbers",
    )
