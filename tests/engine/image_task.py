"""A small ResNet with batch norm that classifies images, for tests of the engine alone."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.core import AXIS, ClassificationBatch, Task
from jaxvision.losses import cross_entropy
from jaxvision.models import create_model


def image_task(size=16, *, name="resnet20", loss=cross_entropy, **fields):
    """Classifies grey images f32[size, size, 1] after random shifts, flips and noise."""
    model = create_model(name, num_classes=10, axis_name=AXIS, **fields)

    def augment(key, example):
        flip, shift, noise = jax.random.split(key, 3)
        image = jnp.where(jax.random.bernoulli(flip), example.image[:, ::-1], example.image)
        image = jnp.roll(image, jax.random.randint(shift, (2,), -2, 3), (0, 1))
        noise = 10 * jax.random.normal(noise, image.shape, jnp.float32)
        return example.replace(image=image.astype(jnp.float32) + noise)

    def forward(variables, batch, *, keys, step, train):
        if not train:
            return model.apply(variables, batch.image, train=False), {}
        return model.apply(variables, batch.image, train=True, mutable=["batch_stats"])

    def example_loss(outputs, example, *, key, step):
        total, weight = loss(outputs["logits"], example.label)
        return {"cross_entropy": (total * example.weight, weight * example.weight)}

    def metrics(outputs, example):
        right = outputs["logits"].argmax() == example.label
        return {"accuracy": (right.astype(jnp.float32), jnp.float32(1))}

    return Task(
        init=lambda key: model.init(key, jnp.zeros((1, size, size, 1)), train=False),
        augment=augment,
        prepare=lambda example: example.replace(
            image=example.image.astype(jnp.float32) / 127.5 - 1
        ),
        forward=forward,
        loss=example_loss,
        metrics=metrics,
        decode=lambda outputs, example: jax.nn.softmax(outputs["logits"]),
        kind="classification",
    )


def image_batches(count, size=16, pixels=16):
    """Images with example weights that are uneven over the devices."""
    rng = np.random.default_rng(1)
    return [
        ClassificationBatch(
            image=rng.integers(0, 256, (size, pixels, pixels, 1), np.uint8),
            label=rng.integers(0, 10, size).astype(np.int32),
            weight=np.linspace(0.1, 3, size).astype(np.float32) ** 2,
            mask=np.ones(size, bool),
        )
        for _ in range(count)
    ]
