"""Augmentation of an image and its boxes on the device: pure functions, to be vmapped.

An example is a `DetectionBatch` without the batch axis: an image [H, W, C] in 0..255, and N rows of
boxes f32[N, 4] (xyxy, pixels), labels i32[N], box_mask, crowd and difficult bool[N], and masks
bool[N, H, W] or None. A pixel's left edge is x, its right edge x + 1. The result has the same
shapes: a box that leaves the image keeps its row, with box_mask False, zeros for a box and an empty
mask (see `clip_and_drop`); its label and flags stay. What lies in padded rows plays no part.
Colours that a function moves in are `fill`. Masks move as the image does, to the nearest pixel;
whether a box stays does not depend on them, so that one may stay of which no pixel is left.

What describes the original image, `area` and `placement`, has no place in what becomes of it: every
result is without them (None).
"""

import functools
import math
from collections.abc import Callable
from typing import TypeVar

import chex
import jax
import jax.numpy as jnp
from jax import Array

from jaxvision.augment.sampling import (
    GREY,
    resized_crop,
    resized_crop_boxes,
    scale_and_translate_window,
)
from jaxvision.core import (
    DetectionBatch,
    InputError,
    at_least_float32,
    check_array,
    check_range,
)
from jaxvision.ops import box_area

Tree = TypeVar("Tree")


def flip_boxes(boxes: Array, *, width: int) -> Array:
    """Boxes of an image that is mirrored left and right: x1' = width - x2, x2' = width - x1.

    Args:
      boxes: f32[..., 4], xyxy, pixels.
      width: of the image.
    Returns:
      f32[..., 4].
    Raises:
      AssertionError: boxes has another shape or is no float.
    """
    x1, y1, x2, y2 = jnp.moveaxis(check_array("boxes", boxes, ("...", 4)), -1, 0)
    return jnp.stack([width - x2, y1, width - x1, y2], axis=-1)


def random_horizontal_flip(
    key: Array, example: DetectionBatch, *, probability: float = 0.5
) -> DetectionBatch:
    """Mirrors image, boxes and masks left and right with the given probability.

    Args:
      key: key[].
      example: see above.
      probability: in [0, 1].
    Returns:
      The example; the image has its dtype.
    Raises:
      AssertionError: a part of the example has another shape or dtype.
      ValueError: the probability is out of its range.
    """
    check_range("probability", probability, least=0, most=1)
    example = _check(example)
    happens = jax.random.bernoulli(key, probability)
    image = jnp.where(happens, example.image[:, ::-1], example.image)
    flipped = flip_boxes(example.boxes, width=example.image.shape[1])
    boxes = jnp.where(happens, flipped, example.boxes)
    masks = example.masks
    if masks is not None:
        masks = jnp.where(happens, masks[:, :, ::-1], masks)
    return _only_real(example.replace(image=image, boxes=boxes, masks=masks))


def clip_and_drop(
    example: DetectionBatch, *, least_visible: float = 0.25, least_side: float = 1.0
) -> DetectionBatch:
    """Clips the boxes to the image and drops those of which too little is left.

    A box is dropped if the part of its area inside the image is less than `least_visible`, if a
    side of what is left is shorter than `least_side`, or if it has no area. Its row stays, with
    box_mask False, a box of zeros and an empty mask; padded rows get these too.

    All functions here by which boxes can leave the image end with this rule. Each counts from the
    boxes that it gets: what an earlier one has cut off counts no more.

    Args:
      example: see above; boxes may reach beyond the image.
      least_visible: share of the area that must be left, in [0, 1].
      least_side: pixels, at least 0.
    Returns:
      The example with other boxes, box_mask and masks.
    Raises:
      AssertionError: a part of the example has another shape or dtype.
      ValueError: an option out of its range.
    """
    example = _check(example)
    height, width, _ = example.image.shape
    window = jnp.array([0, 0, width, height], jnp.float32)
    return _clip_to(window, example, least_visible, least_side)


def random_scale_and_translate(
    key: Array,
    example: DetectionBatch,
    *,
    scale: tuple[float, float] = (0.8, 1.2),
    ratio: tuple[float, float] = (1.0, 1.0),
    translate: float = 0.2,
    fill: float = GREY,
    least_visible: float = 0.25,
    least_side: float = 1.0,
) -> DetectionBatch:
    """Scales the image about its centre and moves it; the size of the result stays H x W.

    With s uniform in `scale`, r log-uniform in `ratio` and t uniform in [-translate, translate] for
    each axis, x' = W / 2 + s sqrt(r) (x - W / 2) + t_x W and
    y' = H / 2 + s / sqrt(r) (y - H / 2) + t_y H. Boxes are clipped and dropped by the rule of
    `clip_and_drop`.

    Args:
      key: key[].
      example: see above.
      scale: the least and the largest factor, more than 0; more than 1 enlarges.
      ratio: the least and the largest factor of width over height, more than 0.
      translate: the largest move, as a share of the side, at least 0.
      fill: the colour outside the image.
      least_visible: see `clip_and_drop`.
      least_side: see `clip_and_drop`.
    Returns:
      The example; the image is float32, bilinear.
    Raises:
      AssertionError: a part of the example has another shape or dtype.
      ValueError: an option out of its range.
    Source: the defaults are those of Redmon et al. 2016 ("You only look once"), section 2.2.
    """
    example = _check(example)
    window = scale_and_translate_window(
        key, example.image.shape[:2], scale=scale, ratio=ratio, translate=translate
    )
    return _crop(example, window, fill, least_visible, least_side)


def random_jitter_crop(
    key: Array,
    example: DetectionBatch,
    *,
    jitter: float = 0.3,
    fill: float = GREY,
    least_visible: float = 0.25,
    least_side: float = 1.0,
) -> DetectionBatch:
    """Moves each border of the image in or out, and resizes what is between to H x W: Darknet's.

    The left and the right border move by up to `jitter` of the width, the upper and the lower by up
    to `jitter` of the height: four numbers, uniform in [-jitter, jitter]. Boxes are clipped and
    dropped by the rule of `clip_and_drop`.

    Args:
      key: key[].
      example: see above.
      jitter: at least 0, less than 1/2.
      fill: the colour outside the image.
      least_visible: see `clip_and_drop`.
      least_side: see `clip_and_drop`.
    Returns:
      The example; the image is float32, bilinear.
    Raises:
      AssertionError: a part of the example has another shape or dtype.
      ValueError: an option out of its range.
    Source: Darknet's `jitter` (0.2 for YOLOv1, 0.2 or 0.3 for v2, 0.3 for v3).
    """
    check_range("jitter", jitter, least=0, less_than=0.5)
    example = _check(example)
    height, width, _ = example.image.shape
    side = jnp.array([width, height, width, height], jnp.float32)
    share = jax.random.uniform(key, (4,), minval=-jitter, maxval=jitter)
    window = side * (jnp.array([0.0, 0.0, 1.0, 1.0]) + share)
    return _crop(example, window, fill, least_visible, least_side)


def mosaic(
    key: Array,
    example: DetectionBatch,
    *,
    margin: float = 0.2,
    least_visible: float = 0.25,
    least_side: float = 1.0,
) -> DetectionBatch:
    """Four images around a random centre: the example and its first three partners.

    A centre (x, y) is drawn, whole pixels, each coordinate uniform in what is at least `margin` of
    the side away from the borders. It cuts the result, which has the size of one image, into four:
    upper left the example, then the partners upper right, lower left, lower right. Each part shows
    a crop of its image, of the part's size and at an offset uniform among all whole ones, so that
    nothing is scaled, interpolated or filled: a change of scale is for another function, before or
    after this one.

    Boxes and masks are moved with their images, and clipped and dropped by the rule of
    `clip_and_drop` with the part in place of the image. The result has N rows again, in falling
    order of area (ties in the order of the images and their rows): when more than N boxes are left,
    the largest N stay.

    Args:
      key: key[].
      example: see above, with at least 3 partners.
      margin: of the centre, as a share of the side: at least 0, at most 1/2.
      least_visible: see `clip_and_drop`.
      least_side: see `clip_and_drop`.
    Returns:
      The example; the image has its dtype; mask and partners are those of the example.
    Raises:
      AssertionError: a part of the example or of its partners has another shape or dtype.
      InputError: fewer than 3 partners, or an option out of its range.
    Source: Bochkovskiy et al. 2020 ("YOLOv4"), section 3.3, figure 3.
    """
    check_range("margin", margin, least=0, most=0.5)
    example = _check(example)
    partners = _partners(example, 3, "mosaic")
    four = jax.tree.map(
        lambda x, others: jnp.concatenate([x[None], others[:3]]),
        example.replace(partners=None),
        partners,
    )
    image, parts, moves, windows = _parts_of_mosaic(key, four, margin, least_visible, least_side)
    result, part = _with_largest(example.replace(image=image), parts)
    if result.masks is None:
        return result
    return result.replace(masks=_masks_in_parts(result.masks, moves[part], windows[part]))


def mixup(
    key: Array, example: DetectionBatch, *, alpha: float = 1.5, partner: int = 0
) -> DetectionBatch:
    """`blend` with a partner, with a share drawn from Beta(alpha, alpha).

    Args:
      key: key[].
      example: see above, with partners.
      alpha: more than 0; the larger, the nearer are the shares to 1/2.
      partner: which partner, from 0 on; 3 is the first that `mosaic` does not take.
    Returns:
      As `blend`; partners are those of the example.
    Raises:
      AssertionError: a part of the example or of its partners has another shape or dtype.
      InputError: no such partner, or alpha is out of its range.
    Source: Zhang et al. 2019 ("Bag of freebies for training object detection neural networks"),
      section 3.1.
    """
    check_range("alpha", alpha, more_than=0, less_than=math.inf)
    check_range("partner", partner, least=0)
    example = _check(example)
    partners = _partners(example, partner + 1, "mixup")
    other = jax.tree.map(lambda x: x[partner], partners)
    return blend(example, other, jax.random.beta(key, alpha, alpha))


def blend(example: DetectionBatch, other: DetectionBatch, share: Array) -> DetectionBatch:
    """share times the first image plus 1 - share times the second, with the boxes of both.

    All boxes and masks count in full, whatever the share, as in YOLOX (Ge et al. 2021). The result
    has N rows again, in falling order of area (ties: the first's before the second's, in the order
    of their rows): when both have more than N boxes together, the largest N stay.

    Args:
      example: see above.
      other: another one, of the same shapes.
      share: f32[], in [0, 1].
    Returns:
      The example; the image is float32; mask and partners are those of the first.
    Raises:
      AssertionError: an argument, or a part of one, has another shape or dtype.
    Source: Zhang et al. 2019 ("Bag of freebies for training object detection neural networks"),
      section 3.1.
    """
    example = _check(example)
    other = _check(other, "other.", example)
    share = check_array("share", share, ()).astype(jnp.float32)
    image = share * example.image + (1 - share) * other.image
    both = jax.tree.map(
        lambda x, y: jnp.stack([x, y]), example.replace(partners=None), other.replace(partners=None)
    )
    return _with_largest(example.replace(image=image), both)[0]


def with_probability(
    key: Array,
    example: Tree,
    function: Callable[[Array, Tree], Tree],
    *,
    probability: float,
) -> Tree:
    """function(key, example) with the given probability, else the example.

    Both are computed and one is chosen: under `vmap`, which is how augmentation runs, a
    `lax.cond` becomes the same choice, and it would refuse a function that turns bytes to floats.

    Args:
      key: key[].
      example: arrays in any structure: an example, or an image.
      function: (key, example) -> example, of the same shapes; what it leaves out (None) is left
        out in any case.
      probability: in [0, 1].
    Returns:
      The example, with dtypes that hold both.
    Raises:
      AssertionError: the function changes a shape.
      ValueError: the probability is out of its range.
    """
    check_range("probability", probability, least=0, most=1)
    choice_key, function_key = jax.random.split(key)
    changed = function(function_key, example)
    happens = jax.random.bernoulli(choice_key, probability)

    def choose(x: Array | None, y: Array) -> Array | None:
        if x is None:
            return None
        chex.assert_equal_shape([x, y])
        return jnp.where(happens, x, y)

    return jax.tree.map(choose, changed, example, is_leaf=lambda x: x is None)


_ROWS = {"labels": "int", "box_mask": "bool", "crowd": "bool", "difficult": "bool"}
"""What an example has for each box, besides the box and the mask."""


def _check(
    example: DetectionBatch, prefix: str = "", like: DetectionBatch | None = None
) -> DetectionBatch:
    """The example as JAX arrays, if its shapes and dtypes are right (those of `like`, if given).

    What describes the original image is left out.
    """
    shape = ("H", "W", "C") if like is None else like.image.shape
    image = check_array(f"{prefix}image", example.image, shape, "number")
    shape = ("N", 4) if like is None else like.boxes.shape
    boxes = check_array(f"{prefix}boxes", example.boxes, shape)
    rows = {
        name: check_array(f"{prefix}{name}", getattr(example, name), boxes.shape[:1], kind)
        for name, kind in _ROWS.items()
    }
    masks = example.masks
    if like is not None and (masks is None) != (like.masks is None):
        raise AssertionError(f"{prefix}masks: give all examples masks, or none")
    if masks is not None:
        masks = check_array(f"{prefix}masks", masks, (*boxes.shape[:1], *image.shape[:2]), "bool")
    return example.replace(
        image=image,
        boxes=at_least_float32(boxes),
        masks=masks,
        area=None,
        placement=None,
        **rows,
    )


def _partners(example: DetectionBatch, count: int, what: str) -> DetectionBatch:
    """The example's partners, if there are as many as `what` needs."""
    partners = example.partners
    present = 0 if partners is None else len(partners.image)
    if present < count:
        raise InputError(
            f"{what} takes {count} of an example's partners, and there are {present}: let the "
            "loader send more with each example"
        )
    return jax.vmap(lambda other: _check(other, "partners.", example))(partners)


def _only_real(example: DetectionBatch) -> DetectionBatch:
    """The example with zeros for the boxes and masks of padded rows."""
    real, masks = example.box_mask, example.masks
    return example.replace(
        boxes=jnp.where(real[:, None], example.boxes, 0),
        masks=None if masks is None else masks & real[:, None, None],
    )


# Compiled as a whole, so that an eager call compiles once; so are others below.
@functools.partial(jax.jit, static_argnums=(2, 3))
def _clip_to(
    window: Array, example: DetectionBatch, least_visible: float, least_side: float
) -> DetectionBatch:
    """`clip_and_drop` with any window, f32[4], in place of the image."""
    check_range("least_visible", least_visible, least=0, most=1)
    check_range("least_side", least_side, least=0)
    boxes = _only_real(example).boxes
    clipped = jnp.clip(boxes, jnp.tile(window[:2], 2)[None], jnp.tile(window[2:], 2)[None])
    before, left = box_area(boxes), box_area(clipped)
    sides = clipped[:, 2:] - clipped[:, :2]
    kept = example.box_mask & (left > 0) & (left >= least_visible * before)
    kept &= (sides >= least_side).all(axis=1)
    return _only_real(example.replace(boxes=clipped, box_mask=kept))


def _crop(
    example: DetectionBatch, window: Array, fill: float, least_visible: float, least_side: float
) -> DetectionBatch:
    image = resized_crop(example.image, window, fill=fill)
    boxes = resized_crop_boxes(example.boxes, window, size=image.shape[:2])
    masks = example.masks
    if masks is not None:
        crop = functools.partial(resized_crop, window=window, method="nearest", fill=0)
        masks = jax.vmap(crop)(masks[..., None])[..., 0]
    moved = example.replace(image=image, boxes=boxes, masks=masks)
    return clip_and_drop(moved, least_visible=least_visible, least_side=least_side)


@jax.jit
def _with_largest(example: DetectionBatch, several: DetectionBatch) -> tuple[DetectionBatch, Array]:
    """The example with the largest boxes of several examples [K, ...]; which one each is from."""
    rows = several.replace(image=None, mask=None)
    rows = jax.tree.map(lambda x: jnp.concatenate([*x]), rows)
    area = jnp.where(rows.box_mask, box_area(_only_real(rows).boxes), -1)
    largest = jnp.argsort(area, descending=True)[: len(example.boxes)]
    chosen = _only_real(jax.tree.map(lambda x: x[largest], rows))
    result = chosen.replace(image=example.image, mask=example.mask, partners=example.partners)
    return result, largest // len(example.boxes)


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _parts_of_mosaic(
    key: Array, four: DetectionBatch, margin: float, least_visible: float, least_side: float
) -> tuple[Array, DetectionBatch, Array, Array]:
    """The image, and of the four examples their rows in it (masks unmoved), moves and windows.

    Returns:
      [H, W, C], the rows of 4 examples, i32[4, 2] (x, y) and f32[4, 4].
    """
    # From here on x comes first, as in boxes: [2], or [4, 2] for the four parts.
    sides = four.image.shape[2:0:-1]
    size, nearest = jnp.array(sides), jnp.array([int(margin * side) for side in sides])
    centre_key, offset_key = jax.random.split(key)
    centre = jax.random.randint(centre_key, (2,), nearest, size - nearest + 1)
    after = jnp.array([[False, False], [True, False], [False, True], [True, True]])
    begin = jnp.where(after, centre[None], 0)
    end = jnp.where(after, size[None], centre[None])
    offset = jax.random.randint(offset_key, (4, 2), 0, size[None] - (end - begin) + 1)
    move = begin - offset
    # Four slices: as one, under vmap, they take ten times as long on a CPU.
    images = [_translate(four.image[k], move[k]) for k in range(4)]
    left = (jnp.arange(sides[0]) < centre[0])[None, :, None]
    upper = (jnp.arange(sides[1]) < centre[1])[:, None, None]
    image = jnp.where(
        upper, jnp.where(left, images[0], images[1]), jnp.where(left, images[2], images[3])
    )
    moved = four.replace(boxes=four.boxes + jnp.tile(move, 2)[:, None])
    windows = jnp.concatenate([begin, end], axis=1).astype(jnp.float32)
    clip = jax.vmap(lambda window, part: _clip_to(window, part, least_visible, least_side))
    return image, clip(windows, moved), move, windows


@jax.jit
def _masks_in_parts(masks: Array, moves: Array, windows: Array) -> Array:
    """Masks of whole images, each moved by its own (x, y) and cut to its own window of a mosaic."""
    height, width = masks.shape[1:]
    x, y = jnp.arange(width) + 0.5, jnp.arange(height) + 0.5

    def one(mask: Array, move: Array, window: Array) -> Array:
        left, top, right, bottom = window
        inside = ((y > top) & (y < bottom))[:, None] & ((x > left) & (x < right))[None]
        return _translate(mask[:, :, None], move)[:, :, 0] & inside

    return jax.vmap(one)(masks, moves, windows)


def _translate(image: Array, move: Array) -> Array:
    """The image moved by whole pixels, (x, y), at most its own size."""
    height, width, _ = image.shape
    padded = jnp.pad(image, ((height, height), (width, width), (0, 0)))
    return jax.lax.dynamic_slice(padded, (height - move[1], width - move[0], 0), image.shape)
