"""A detector of boxes with masks in one file, and its config on a folder in COCO's form."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.cli.config import default_config
from jaxvision.core import Detections, extent_of
from jaxvision.tasks import Detector

CELLS = 6


class Net(nn.Module):
    """f32[B, H, W, 3] -> two boxes of each image, their classes, and the logits of their masks."""

    num_classes: int

    @nn.compact
    def __call__(self, images, *, train):
        x = images.mean(axis=(1, 2))
        return {
            "boxes": nn.Dense(8, name="boxes")(x).reshape(-1, 2, 2, 2),
            "scores": nn.Dense(2 * self.num_classes, name="scores")(x).reshape(len(x), 2, -1),
            "masks": nn.Dense(2 * CELLS**2, name="masks")(x).reshape(-1, 2, CELLS, CELLS),
        }


def loss(outputs, example):
    return sum(jnp.square(x).sum() for x in outputs.values()), jnp.float32(1)


def masked(model):
    """The detector: boxes of half the image's height and width, the surest one first."""

    def decode(outputs, example):
        sides = extent_of(example)[None, ::-1] / 2
        corner = jax.nn.sigmoid(outputs["boxes"][:, 0]) * sides
        scores = jax.nn.softmax(outputs["scores"])
        order = jnp.argsort(-scores.max(axis=1))
        return Detections(
            boxes=jnp.concatenate([corner, corner + sides], axis=1)[order],
            scores=scores.max(axis=1)[order],
            labels=scores.argmax(axis=1)[order].astype(jnp.int32),
            valid=jnp.ones(2, bool),
            masks=jax.nn.sigmoid(4 * outputs["masks"])[order],
        )

    return Detector(model, loss, decode)


def get_config():
    config = default_config("detection")
    config.steps = 2
    config.batch_size = 4
    config.eval_every = 2
    config.model.name = f"{__file__}:Net"
    config.detector.name = f"{__file__}:masked"
    config.best.metric = "mask_AP"

    config.data.source = "coco"
    config.data.masks = True
    config.data.test_split = "train"
    config.data.validation_fraction = 0.0
    config.data.image_size = 16
    config.data.max_boxes = 4
    return config
