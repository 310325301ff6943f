"""Augmentation of an image and its landmarks on the device: pure functions, to be vmapped.

An example is a `LandmarkBatch` without the batch axis: an image [H, W, C] in 0..255, points
f32[K, 2] (xy, pixels), visible bool[K] and placement f32[4] or None. A pixel's left edge is x, its
right edge x + 1. The result has the same shapes: a landmark that leaves the image becomes
invisible, and the points of invisible ones are zeros; what they were plays no part. The placement
says where the original image lies in the result: mirrored it has a negative scale_x.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array

from jaxvision.augment.sampling import (
    GREY,
    resized_crop,
    resized_crop_boxes,
    scale_and_translate_window,
)
from jaxvision.core import InputError, LandmarkBatch, at_least_float32, check_array, check_range


def random_flip_landmarks(
    key: Array, example: LandmarkBatch, *, swap: Sequence[int], probability: float = 0.5
) -> LandmarkBatch:
    """Mirrors image and landmarks left and right with the given probability.

    x' = W - x; landmark k becomes landmark swap[k], as a left eye becomes a right one.

    Args:
      key: key[].
      example: see above.
      swap: for each landmark the one that it becomes, itself or another, which then becomes it:
        (1, 0, 2) for two eyes and a nose.
      probability: in [0, 1].
    Returns:
      The example; the image has its dtype.
    Raises:
      AssertionError: a part of the example has another shape or dtype.
      ValueError: the probability is out of its range, or `swap` is no such exchange.
    """
    check_range("probability", probability, least=0, most=1)
    example = _check(example)
    order = _exchange(swap, len(example.visible))
    happens = jax.random.bernoulli(key, probability)
    width = example.image.shape[1]
    mirrored = _moved(example, lambda points: points.at[:, 0].set(width - points[:, 0]))
    mirrored = mirrored.replace(
        image=example.image[:, ::-1],
        points=mirrored.points[order],
        visible=example.visible[order],
    )
    chosen = jax.tree.map(lambda x, y: jnp.where(happens, x, y), mirrored, example)
    return _only_visible(chosen)


def random_scale_and_translate_landmarks(
    key: Array,
    example: LandmarkBatch,
    *,
    scale: tuple[float, float] = (0.8, 1.2),
    ratio: tuple[float, float] = (1.0, 1.0),
    translate: float = 0.2,
    fill: float = GREY,
) -> LandmarkBatch:
    """As `random_scale_and_translate`, of an image with landmarks.

    Args:
      key: key[].
      example: see above.
      scale: the least and the largest factor, more than 0; more than 1 enlarges.
      ratio: the least and the largest factor of width over height, more than 0.
      translate: the largest move, as a share of the side, at least 0.
      fill: the colour outside the image.
    Returns:
      The example; the image is float32, bilinear.
    Raises:
      AssertionError: a part of the example has another shape or dtype.
      ValueError: an option out of its range.
    """
    example = _check(example)
    size = example.image.shape[:2]
    window = scale_and_translate_window(key, size, scale=scale, ratio=ratio, translate=translate)

    def move(points: Array) -> Array:
        return resized_crop_boxes(jnp.tile(points, 2), window, size=size)[:, :2]

    moved = _moved(example, move)
    sides = jnp.array([size[::-1]], moved.points.dtype)
    inside = ((moved.points >= 0) & (moved.points <= sides)).all(axis=1)
    return _only_visible(
        moved.replace(
            image=resized_crop(example.image, window, fill=fill),
            visible=example.visible & inside,
        )
    )


def _exchange(swap: Sequence[int], count: int) -> Array:
    """i32[K], if it is an exchange of so many landmarks."""
    back = {becomes: landmark for landmark, becomes in enumerate(swap)}
    if len(swap) != count or any(back.get(k) != becomes for k, becomes in enumerate(swap)):
        raise InputError(
            f"swap is {tuple(swap)}: give for each of the {count} landmarks the number, from 0 on, "
            "of the one that it becomes in the mirror, and which becomes it"
        )
    return jnp.array(swap, jnp.int32)


def _check(example: LandmarkBatch) -> LandmarkBatch:
    """The example as JAX arrays, if its shapes and dtypes are right."""
    points, placement = check_array("points", example.points, ("K", 2)), example.placement
    if placement is not None:
        placement = at_least_float32(check_array("placement", placement, (4,)))
    return example.replace(
        image=check_array("image", example.image, ("H", "W", "C"), "number"),
        points=at_least_float32(points),
        visible=check_array("visible", example.visible, points.shape[:1], "bool"),
        placement=placement,
    )


def _moved(example: LandmarkBatch, move: Callable[[Array], Array]) -> LandmarkBatch:
    """The points and the placement moved along each axis by itself: f32[N, 2] -> f32[N, 2]."""
    placement = example.placement
    if placement is not None:
        # Where the original's points (0, 0) and (1, 1) are.
        begin, end = move(jnp.stack([placement[2:], placement[2:] + placement[:2]]))
        placement = jnp.concatenate([end - begin, begin])
    return example.replace(points=move(example.points), placement=placement)


def _only_visible(example: LandmarkBatch) -> LandmarkBatch:
    return example.replace(points=jnp.where(example.visible[:, None], example.points, 0))
