"""Self-adversarial training: images that a network changes before it is trained on them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxvision.core import DetectionBatch, Inputs, Keys
from jaxvision.tasks.detectors import Adversarial


def perturbation(
    forward: Callable[..., Any], adversarial: Adversarial, inputs: Inputs
) -> Callable[..., DetectionBatch]:
    """The `perturb` of a task: a step of the images down the gradient of a cost.

    Args:
      forward: of the task. It runs as in evaluation.
      adversarial: what is to vanish, and how much images change.
      inputs: of the task; the images stay in the range of images.
    """
    figures = tuple(zip(inputs.mean, inputs.std, strict=True))
    low, high = (np.float32([[[[(x - mean) / std for mean, std in figures]]]]) for x in (0, 1))

    def perturb(
        variables: dict[str, Any], batch: DetectionBatch, *, keys: Keys, step: Array
    ) -> DetectionBatch:
        def cost(image: Array) -> Array:
            outputs, _ = forward(
                variables, batch.replace(image=image), keys=None, step=None, train=False
            )
            return jax.vmap(adversarial.cost)(outputs).sum()

        def changed(image: Array) -> Array:
            moved = jnp.clip(image - adversarial.rate * jax.grad(cost)(image), low, high)
            chosen = jax.vmap(lambda key: jax.random.bernoulli(key, adversarial.probability))
            return jnp.where(chosen(keys.example)[:, None, None, None], moved, image)

        image = lax.cond(step >= adversarial.start, changed, lambda image: image, batch.image)
        return batch.replace(image=image)

    return perturb
