"""A toy detector that needs everything a task may ask of the engine.

One box an image, from a dozen lines of network: padded boxes with masks and soft targets, partners
that arrive with each example, a loss that uses its key and the step, and a `forward` that closes a
pure picker over ground truth in training.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.core import AXIS, DetectionBatch, Detections, Task
from jaxvision.layers import batch_norm

SIZE, BOXES, PICKS = 16, 3, 2


class BoxNet(nn.Module):
    """f32[B, 16, 16, 3] -> "cells" [B, 4, 5] and, of the picked cells, "picked" [B, PICKS, 5]."""

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images, *, pick, train):
        dtypes = {"dtype": self.dtype, "param_dtype": self.dtype}
        x = nn.Conv(8, (8, 8), strides=8, padding="VALID", **dtypes)(images)
        x = nn.relu(batch_norm(x, name="bn", train=train, axis_name=AXIS, **dtypes))
        cells = nn.Dense(5, name="cells", **dtypes)(x.reshape(len(x), 4, 8))
        chosen = jax.lax.stop_gradient(jax.vmap(pick)(jnp.arange(len(x)), cells))
        picked = jnp.take_along_axis(x.reshape(len(x), 4, 8), chosen[..., None], axis=1)
        return {"cells": cells, "picked": nn.Dense(5, name="refine", **dtypes)(picked)}


def box_batches(count, batch_size, seed=0, dtype=np.float32):
    """Batches of images with 0 to 3 boxes, one partner each."""
    rng = np.random.default_rng(seed)

    def batch(size, partners):
        boxes = rng.uniform(0, SIZE, (size, BOXES, 4)).astype(dtype)
        return DetectionBatch(
            image=rng.integers(0, 256, (size, SIZE, SIZE, 3), np.uint8),
            boxes=np.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:] / 4], -1),
            labels=rng.integers(0, 2, (size, BOXES)).astype(np.int32),
            # Uneven over the devices: the first images have boxes, the last few hardly any.
            box_mask=np.arange(BOXES)[None] < (3 - 4 * np.arange(size)[:, None] // size),
            crowd=np.zeros((size, BOXES), bool),
            difficult=np.zeros((size, BOXES), bool),
            mask=np.ones(size, bool),
            partners=partners,
        )

    def with_partners():
        one = batch(batch_size, None)
        return batch(batch_size, jax.tree.map(lambda x: x[:, None], one))

    return [with_partners() for _ in range(count)]


def box_task(dtype=jnp.float32):
    model = BoxNet(dtype)

    def pick_any(index, cells):
        return jax.lax.top_k(cells[:, 4], PICKS)[1]

    def init(key):
        images = jnp.zeros((1, SIZE, SIZE, 3), dtype)
        return model.init(key, images, pick=pick_any, train=False)

    def augment(key, example):
        """Mixup with the partner: images are blended; boxes stay those of the first."""
        partner = jax.tree.map(lambda x: x[0], example.partners)
        share = jax.random.uniform(key, (), dtype, 0.5, 1)
        mixed = share * example.image + (1 - share) * partner.image
        return example.replace(image=mixed)

    def prepare(example):
        return example.replace(image=example.image.astype(dtype) / 255 - 0.5)

    def forward(variables, batch, *, keys, step, train):
        if not train:
            return model.apply(variables, batch.image, pick=pick_any, train=False), {}

        def pick(index, cells):
            """The cell of the first true box, where there is one, and a random other."""
            first = jnp.where(batch.box_mask[index, 0], batch.labels[index, 0], 0)
            other = jax.random.randint(keys.example[index], (), 1, 4)
            return jnp.stack([first, (first + other) % 4])

        return model.apply(variables, batch.image, pick=pick, train=True, mutable=["batch_stats"])

    def loss(outputs, example, *, key, step):
        boxes = jnp.where(example.box_mask[:, None], example.boxes, 0) / SIZE
        found = example.box_mask.sum().astype(dtype)
        mean_box = boxes.sum(0) / jnp.where(found > 0, found, 1)
        # Soft targets, a sampled cell, a term that fades with time, weights that differ by image.
        soft = jnp.stack([found, BOXES - found]) / BOXES
        sampled = outputs["cells"][jax.random.randint(key, (), 0, 4)]
        prior = jnp.where(step < 10, 0.1, 0.0) * (sampled**2).sum()
        box_error = jnp.abs(outputs["picked"][:, :4] - mean_box[None]).sum()
        logits = jnp.stack([outputs["picked"][0, 4], -outputs["picked"][0, 4]])
        return {
            "box": (jnp.where(found > 0, box_error * found, 0.0), found),
            "objectness": (-(soft * jax.nn.log_softmax(logits)).sum(), jnp.ones((), dtype)),
            "prior": (prior * 0.5, jnp.full((), 0.5, dtype)),
        }

    def metrics(outputs, example):
        return {"score": (outputs["cells"][:, 4].max(), jnp.ones((), dtype))}

    def decode(outputs, example):
        scores, order = jax.lax.top_k(outputs["cells"][:, 4], 4)
        boxes = outputs["cells"][order, :4] * SIZE
        return Detections(boxes, scores, jnp.zeros(4, jnp.int32), scores > 0)

    return Task(init, augment, prepare, forward, loss, metrics, decode, kind="boxes", partners=1)
