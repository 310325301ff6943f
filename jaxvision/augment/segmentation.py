"""Augmentation of an image and the labels of its pixels on the device: pure functions, for vmap.

An example is a `SegmentationBatch` without the batch axis: an image [H, W, C] in 0..255 and labels
int[H, W]. The result has the same shapes. Labels are those of the nearest pixels, and `ignore`
where the image is filled up.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import Array

from jaxvision.augment.sampling import GREY, resized_crop, scale_and_translate_window, warp
from jaxvision.core import IGNORED, SegmentationBatch, check_array, check_range


def random_flip_labelled(
    key: Array, example: SegmentationBatch, *, probability: float = 0.5
) -> SegmentationBatch:
    """Mirrors image and labels left and right with the given probability.

    Args:
      key: key[].
      example: see above.
      probability: in [0, 1].
    Returns:
      The example, in its dtypes.
    Raises:
      AssertionError: a part of the example has another shape or dtype.
      ValueError: the probability is out of its range.
    """
    check_range("probability", probability, least=0, most=1)
    image, labels = _check(example)
    happens = jax.random.bernoulli(key, probability)
    return example.replace(
        image=jnp.where(happens, image[:, ::-1], image),
        labels=jnp.where(happens, labels[:, ::-1], labels),
    )


def random_scale_and_translate_labelled(
    key: Array,
    example: SegmentationBatch,
    *,
    scale: tuple[float, float] = (0.8, 1.2),
    ratio: tuple[float, float] = (1.0, 1.0),
    translate: float = 0.2,
    fill: float = GREY,
    ignore: int = IGNORED,
) -> SegmentationBatch:
    """As `random_scale_and_translate`, of an image with labelled pixels.

    Args:
      key: key[].
      example: see above.
      scale: the least and the largest factor, more than 0; more than 1 enlarges.
      ratio: the least and the largest factor of width over height, more than 0.
      translate: the largest move, as a share of the side, at least 0.
      fill: the colour outside the image.
      ignore: the label there.
    Returns:
      The example; the image is float32, bilinear.
    Raises:
      AssertionError: a part of the example has another shape or dtype.
      ValueError: an option out of its range.
    """
    image, labels = _check(example)
    window = scale_and_translate_window(
        key, image.shape[:2], scale=scale, ratio=ratio, translate=translate
    )
    moved = resized_crop(labels[:, :, None], window, method="nearest", fill=ignore)
    return example.replace(image=resized_crop(image, window, fill=fill), labels=moved[:, :, 0])


def elastic_deformation(
    key: Array,
    example: SegmentationBatch,
    *,
    sigma: float = 10.0,
    grid: int = 3,
    fill: float = GREY,
    ignore: int = IGNORED,
) -> SegmentationBatch:
    """Bends the image smoothly: random moves on a coarse grid, cubic in between.

    Each of grid x grid points, evenly spread from border to border, moves by a normal draw of
    standard deviation `sigma` along each axis; the moves of pixels in between are interpolated
    bicubically. A pixel of the result shows what is where its move leads.

    Args:
      key: key[].
      example: see above.
      sigma: pixels, at least 0.
      grid: points a side, at least 2.
      fill: the colour outside the image.
      ignore: the label there.
    Returns:
      The example; the image is float32, bilinear.
    Raises:
      AssertionError: a part of the example has another shape or dtype.
      ValueError: an option out of its range.
    Source: Ronneberger et al. 2015 ("U-Net"), section 3.1: a grid of 3 x 3, 10 pixels.
    """
    check_range("sigma", sigma, least=0, less_than=math.inf)
    check_range("grid", grid, least=2)
    image, labels = _check(example)
    height, width = labels.shape
    coarse = sigma * jax.random.normal(key, (grid, grid, 2))
    moves = _between_points(coarse, height, width)
    y, x = jnp.meshgrid(jnp.arange(height) + 0.5, jnp.arange(width) + 0.5, indexing="ij")
    places = jnp.stack([x, y], axis=-1) + moves
    return example.replace(
        image=warp(image, places, fill=fill),
        labels=warp(labels[:, :, None], places, method="nearest", fill=ignore)[:, :, 0],
    )


@functools.partial(jax.jit, static_argnums=(1, 2))
def _between_points(coarse: Array, height: int, width: int) -> Array:
    """Cubic interpolation of values at points from border to border: f32[G, G, 2] -> [H, W, 2]."""

    def weights(count: int, points: int) -> Array:
        # Keys' kernel with a = -1/2; beyond the outermost points their values go on.
        place = (jnp.arange(count) + 0.5) / count * (points - 1)
        distance = jnp.abs(place[:, None] - jnp.arange(-1, points + 1)[None])
        near = 1.5 * distance**3 - 2.5 * distance**2 + 1
        far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
        kernel = jnp.where(distance <= 1, near, jnp.where(distance < 2, far, 0))
        inner = kernel[:, 1:-1]
        return inner.at[:, 0].add(kernel[:, 0]).at[:, -1].add(kernel[:, -1])

    points = coarse.shape[0]
    product = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
    rows = product("yi,ijc->yjc", weights(height, points), coarse)
    return product("xj,yjc->yxc", weights(width, points), rows)


def _check(example: SegmentationBatch) -> tuple[Array, Array]:
    image = check_array("image", example.image, ("H", "W", "C"), "number")
    return image, check_array("labels", example.labels, image.shape[:2], "int")
