"""A detector of your own in one file: boxes from their centre points, on a small backbone.

    python train.py --config=docs/own_detector_config.py --workdir=runs/points

Zhou et al. 2019 ("Objects as points"), without offsets: each cell of one map says whether the
centre of an object lies in it, of which class, and how large the object is.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.core import extent_of
from jaxvision.losses import smooth_l1_loss
from jaxvision.ops import max_pool
from jaxvision.tasks import DetectOptions, Detector, detect

STRIDE = 4  # pixels of the input in a cell


class Net(nn.Module):
    """f32[B, H, W, 3] -> logits of centres f32[B, H/4, W/4, C], sizes f32[B, H/4, W/4, 2]."""

    num_classes: int
    widths: tuple[int, ...] = (16, 32, 64, 128)

    @nn.compact
    def __call__(self, images, *, train):
        x = images
        for i, width in enumerate(self.widths):
            x = nn.Conv(width, (3, 3), 2 if i in (1, 2) else 1, padding=1, name=f"conv{i}")(x)
            x = nn.relu(nn.GroupNorm(num_groups=8, name=f"norm{i}")(x))
        rare = nn.initializers.constant(-4.0)  # most cells hold no centre
        centres = nn.Conv(self.num_classes, (1, 1), bias_init=rare, name="centres")(x)
        return {"centres": centres, "sizes": nn.Conv(2, (1, 1), name="sizes")(x)}


def loss(outputs, example, *, key, step):
    """Focal loss of the centres (the paper's equation 1), smooth L1 of log sizes; of one image."""
    rows, columns, num_classes = outputs["centres"].shape
    sides = jnp.maximum(example.boxes[:, 2:] - example.boxes[:, :2], 1)
    middle = (example.boxes[:, :2] + example.boxes[:, 2:]) / 2 / STRIDE
    x, y = jnp.moveaxis(jnp.floor(middle).astype(int), -1, 0)
    x, y = jnp.clip(x, 0, columns - 1), jnp.clip(y, 0, rows - 1)
    # A Gaussian around each centre, whose width grows with the object.
    cells = jnp.stack(jnp.meshgrid(jnp.arange(columns), jnp.arange(rows)), -1)[None]
    distance = ((cells - jnp.stack([x, y], -1)[:, None, None]) ** 2).sum(-1)
    spread = (sides.min(axis=1) / STRIDE / 6)[:, None, None]
    bumps = jnp.exp(-distance / (2 * spread**2)) * example.box_mask[:, None, None]
    classes = jax.nn.one_hot(example.labels, num_classes)
    target = (bumps[..., None] * classes[:, None, None]).max(axis=0, initial=0)
    log_p, log_not = (jax.nn.log_sigmoid(s * outputs["centres"]) for s in (1, -1))
    p = jnp.exp(log_p)
    focal = jnp.where(target == 1, (1 - p) ** 2 * log_p, (1 - target) ** 4 * p**2 * log_not)
    found = outputs["sizes"][y, x]
    size, _ = smooth_l1_loss(found, jnp.log(sides / STRIDE), example.box_mask)
    count = jnp.maximum(example.box_mask.sum(), 1)
    return {"centre": (-focal.sum() / count, 1.0), "size": (size / count, 1.0)}


def centre_points(model, decode=None):
    """The detector: `model` gives the maps that `loss` is trained on."""
    options = decode or DetectOptions()

    def decode_maps(outputs, example):
        heat = jax.nn.sigmoid(outputs["centres"])
        peaks = max_pool(heat[None], 3, stride=1, padding=1)[0]  # what is highest nearby
        scores = jnp.where(heat == peaks, heat, 0)
        rows, columns, num_classes = heat.shape
        cells = jnp.stack(jnp.meshgrid(jnp.arange(columns), jnp.arange(rows)), -1)
        centre, half = STRIDE * (cells + 0.5), STRIDE * jnp.exp(outputs["sizes"]) / 2
        boxes = jnp.concatenate([centre - half, centre + half], -1).reshape(-1, 4)
        scores = scores.reshape(-1, num_classes)
        return detect(boxes, scores, image_size=extent_of(example), options=options)

    return Detector(model, loss, decode_maps, multiple_of=STRIDE)
