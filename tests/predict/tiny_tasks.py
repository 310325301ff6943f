"""Small tasks for the tests of prediction, built by hand."""

import jax.numpy as jnp

from jaxvision.core import Inputs, Task


def task_of(kind, forward, decode, *, make=Task, **fields):
    """A task that predicts.

    Args:
      kind: of the task.
      forward: (variables, images f32[B, H, W, C] in 0..255) -> outputs.
      decode: (outputs, example) -> predictions.
      make: the class of the task.
      **fields: others of the task.
    """

    def run(variables, batch, *, keys, step, train):
        assert keys is None
        assert not train
        return forward(variables, batch.image), {}

    given = {"inputs": Inputs((16, 32), resize="stretch"), **fields}
    return make(
        init=lambda key: {},
        augment=lambda key, example: example,
        prepare=lambda example: example.replace(image=example.image.astype(jnp.float32)),
        forward=run,
        loss=None,
        metrics=lambda outputs, example: {},
        decode=decode,
        kind=kind,
        **given,
    )
