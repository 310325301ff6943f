"""Several images with boxes become one, on the device: pure functions, to be vmapped.

An example is a `DetectionBatch` without the batch axis: an image [H, W, C] in 0..255, and N rows of
boxes f32[N, 4] (xyxy, pixels), labels i32[N], box_mask, crowd and difficult bool[N], masks
bool[N, H, W] or None, and keypoints f32[N, K, 3] or None. A pixel's left edge is x, its right edge
x + 1. The result has the same shapes: a box that leaves the image keeps its row, with box_mask
False, zeros for a box and for keypoints, and an empty mask (see `clip_and_drop`); its label and
flags stay. The content of padded rows plays no part. Whether a box stays does not depend on its
mask, so that one may stay of which no pixel is left.

Facts about the original image, such as `area`, `placement` and `size`, do not hold for the result:
every result is without them (None).
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from jaxvision.augment.compose import take_partners, with_probability
from jaxvision.augment.move import SHAPES, clip_and_keep, fields_of, only_real
from jaxvision.augment.options import check_rule
from jaxvision.core import DetectionBatch, check_array, check_range
from jaxvision.ops import box_area


@dataclass(frozen=True)
class Mosaic:
    """Applies `mosaic` to an example and three partners, with a probability.

    Attributes:
      probability: in [0, 1].
      least_visible: share of a box's area that must stay visible, in [0, 1]; see `clip_and_drop`.
      least_side: shortest side that the visible part of a box may have, pixels, at least 0.
      margin: of the centre, as a share of the side: at least 0, at most 1/2.
    """

    probability: float = 1.0
    least_visible: float = 0.25
    least_side: float = 1.0
    margin: float = 0.2
    partners: ClassVar[int] = 3

    def __post_init__(self) -> None:
        check_range("probability", self.probability, least=0, most=1)
        check_rule(self.least_visible, self.least_side)
        check_range("margin", self.margin, least=0, most=0.5)

    def __call__(self, key: Array, example: DetectionBatch) -> DetectionBatch:
        """See `mosaic`; the first three partners are taken."""
        rule = {"least_visible": self.least_visible, "least_side": self.least_side}
        function = functools.partial(mosaic, margin=self.margin, **rule)
        result = _sometimes(key, example, function, self.probability)
        return result.replace(partners=take_partners(example, self.partners, "mosaic")[1])


@dataclass(frozen=True)
class Mixup:
    """Applies `mixup` to an example and a partner, with a probability.

    Attributes:
      probability: in [0, 1].
      alpha: the share is drawn from Beta(alpha, alpha): more than 0; the larger, the nearer to 1/2.
    """

    probability: float = 1.0
    alpha: float = 1.5
    partners: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_range("probability", self.probability, least=0, most=1)
        check_range("alpha", self.alpha, more_than=0, less_than=math.inf)

    def __call__(self, key: Array, example: DetectionBatch) -> DetectionBatch:
        """See `mixup`; the first partner is taken."""
        function = functools.partial(mixup, alpha=self.alpha)
        result = _sometimes(key, example, function, self.probability)
        return result.replace(partners=take_partners(example, self.partners, "mixup")[1])


def clip_and_drop(
    example: DetectionBatch, *, least_visible: float = 0.25, least_side: float = 1.0
) -> DetectionBatch:
    """Clips the boxes to the image and drops those of which too little is left.

    A box is dropped if the part of its area inside the image is less than `least_visible`, if a
    side of that part is shorter than `least_side`, or if it has no area. Its row stays, with
    box_mask False, zeros for a box and for keypoints, and an empty mask; padded rows get these too.

    All augmentations by which boxes can leave the image end with this rule. Each counts from the
    boxes that it gets: what an earlier one has cut off counts no more.

    Args:
      example: see above; boxes may reach beyond the image.
      least_visible: share of a box's area that must stay visible, in [0, 1].
      least_side: shortest side that the visible part of a box may have, pixels, at least 0.
    Returns:
      The example with other boxes, box_mask, masks and keypoints.
    Raises:
      AssertionError: a part of the example has another shape or dtype.
      InputError: an option is out of its range.
    """
    check_rule(least_visible, least_side)
    example = _check(example)
    height, width, _ = example.image.shape
    window = jnp.array([0, 0, width, height], jnp.float32)
    return _clip_to(window, example, least_visible, least_side)


def mosaic(
    key: Array,
    example: DetectionBatch,
    *,
    margin: float = 0.2,
    least_visible: float = 0.25,
    least_side: float = 1.0,
) -> DetectionBatch:
    """Puts four images around a random centre: the example and its first three partners.

    A centre (x, y) is drawn, in whole pixels; each coordinate is uniform among those at least
    `margin` of the side away from the borders. It cuts the result, which has the size of one image,
    into four parts: upper left the example, then the partners upper right, lower left, lower right.
    Each part shows a crop of its image, of the part's size and at an offset uniform among all whole
    ones, so that nothing is scaled, interpolated or filled: a change of scale is for another
    augmentation, before or after this one.

    Boxes, masks and keypoints are moved with their images, and clipped and dropped by the rule of
    `clip_and_drop` with the part in place of the image. The result has N rows again, in falling
    order of area (ties in the order of the images and their rows): when more than N boxes are left,
    the largest N stay. Its extent is the whole image.

    Args:
      key: key[].
      example: see above, with at least 3 partners.
      margin: of the centre, as a share of the side: at least 0, at most 1/2.
      least_visible: see `clip_and_drop`.
      least_side: see `clip_and_drop`.
    Returns:
      The example; the image has its dtype; mask, index and partners are those of the example.
    Raises:
      AssertionError: a part of the example or of its partners has another shape or dtype.
      InputError: fewer than 3 partners, or an option out of its range.
    Source: Bochkovskiy et al. 2020 ("YOLOv4"), section 3.3, figure 3.
    """
    check_range("margin", margin, least=0, most=0.5)
    check_rule(least_visible, least_side)
    example = _check(example)
    partners = _partners(example, 3, "mosaic")
    four = jax.tree.map(
        lambda x, others: jnp.concatenate([x[None], others]),
        example.replace(partners=None),
        partners,
    )
    image, parts, moves, windows = _parts_of_mosaic(key, four, margin, least_visible, least_side)
    result, part = _with_largest(example.replace(image=image), parts)
    if example.extent is not None:
        result = result.replace(extent=jnp.array(image.shape[:2], jnp.int32))
    if result.masks is None:
        return result
    return result.replace(masks=_masks_in_parts(result.masks, moves[part], windows[part]))


def mixup(key: Array, example: DetectionBatch, *, alpha: float = 1.5) -> DetectionBatch:
    """Blends an example with its first partner, with a share drawn from Beta(alpha, alpha).

    Args:
      key: key[].
      example: see above, with partners.
      alpha: more than 0; the larger, the nearer are the shares to 1/2.
    Returns:
      As `blend`; partners are those of the example.
    Raises:
      AssertionError: a part of the example or of its partners has another shape or dtype.
      InputError: no partner, or alpha is out of its range.
    Source: Zhang et al. 2019 ("Bag of freebies for training object detection neural networks"),
      section 3.1.
    """
    check_range("alpha", alpha, more_than=0, less_than=math.inf)
    example = _check(example)
    other = jax.tree.map(lambda x: x[0], _partners(example, 1, "mixup"))
    return blend(example, other, jax.random.beta(key, alpha, alpha))


def blend(example: DetectionBatch, other: DetectionBatch, share: Array) -> DetectionBatch:
    """Adds share times the first image and 1 - share times the second, with the boxes of both.

    All boxes and masks count in full, whatever the share, as in YOLOX (Ge et al. 2021). The result
    has N rows again, in falling order of area (ties: the first's before the second's, in the order
    of their rows): when both have more than N boxes together, the largest N stay. Its extent is the
    larger one along each side.

    Args:
      example: see above.
      other: another one, of the same shapes.
      share: f32[], in [0, 1].
    Returns:
      The example; the image is float32; mask, index and partners are those of the first.
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
    result = _with_largest(example.replace(image=image), both)[0]
    if example.extent is None:
        return result
    return result.replace(extent=jnp.maximum(example.extent, other.extent))


_FLAGS = {"labels": "int", "crowd": "bool", "difficult": "bool"}
"""What an example has for each box and no augmentation of one image changes."""
_PLACES = ("boxes", "masks", "keypoints")
"""What an example has for each box and has a place in the image."""


def _sometimes(
    key: Array,
    example: DetectionBatch,
    function: Callable[[Array, DetectionBatch], DetectionBatch],
    probability: float,
) -> DetectionBatch:
    if probability == 1:
        return function(key, example)
    return with_probability(key, example, function, probability=probability)


def _check(
    example: DetectionBatch, prefix: str = "", like: DetectionBatch | None = None
) -> DetectionBatch:
    """The example as JAX arrays, if its shapes and dtypes are right (those of `like`, if given).

    What describes the original image is left out.
    """
    given = fields_of(example, prefix=prefix, like=like)
    changed = {name: x for kind in SHAPES for name, x in given[kind].items()}
    count = changed["boxes"].shape[:1]
    for name, dtype in _FLAGS.items():
        changed[name] = check_array(f"{prefix}{name}", getattr(example, name), count, dtype)
    return example.replace(**changed, **dict.fromkeys(given["placement"]))


def _partners(example: DetectionBatch, count: int, what: str) -> DetectionBatch:
    """The example's first partners, as many as `what` takes."""
    partners, _ = take_partners(example, count, what)
    return jax.vmap(lambda other: _check(other, "partners.", example))(partners)


def _only_real(example: DetectionBatch) -> DetectionBatch:
    """The example with zeros for boxes, masks and keypoints in the rows that are not real."""
    rows = {name: getattr(example, name) for name in _PLACES}
    rows = {name: only_real(x, example.box_mask) for name, x in rows.items() if x is not None}
    return example.replace(**rows)


def _clip_to(
    window: Array, example: DetectionBatch, least_visible: float, least_side: float
) -> DetectionBatch:
    """`clip_and_drop` with any window, f32[4], in place of the image."""
    boxes, kept = clip_and_keep(example.boxes, example.box_mask, window, least_visible, least_side)
    example = example.replace(boxes=boxes, box_mask=kept)
    if example.keypoints is not None:
        example = example.replace(keypoints=_keypoints_in(window, example.keypoints))
    return _only_real(example)


def _keypoints_in(window: Array, keypoints: Array) -> Array:
    """f32[N, K, 3], with zeros for those outside the window."""
    place = keypoints[..., :2]
    inside = (place >= window[:2][None, None]) & (place <= window[2:][None, None])
    there = inside.all(axis=-1) & (keypoints[..., 2] > 0)
    return jnp.where(there[..., None], keypoints, 0)


@jax.jit
def _with_largest(example: DetectionBatch, several: DetectionBatch) -> tuple[DetectionBatch, Array]:
    """The example with the largest boxes of several examples [K, ...]; which one each is from."""
    rows = {name: getattr(several, name) for name in (*_PLACES, "box_mask", *_FLAGS)}
    rows = {name: jnp.concatenate([*x]) for name, x in rows.items() if x is not None}
    boxes, real = rows["boxes"], rows["box_mask"]
    area = jnp.where(real, box_area(only_real(boxes, real)), -1)
    largest = jnp.argsort(area, descending=True)[: len(example.boxes)]
    result = example.replace(**{name: x[largest] for name, x in rows.items()})
    return _only_real(result), largest // len(example.boxes)


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
    if four.keypoints is not None:
        shift = jnp.concatenate([move, jnp.zeros_like(move[:, :1])], axis=1)[:, None, None]
        moved = moved.replace(keypoints=four.keypoints + shift)
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
        moved = _translate(mask[:, :, None], move)[:, :, 0]
        return jnp.where(inside, moved, jnp.zeros((), mask.dtype))

    return jax.vmap(one)(masks, moves, windows)


def _translate(image: Array, move: Array) -> Array:
    """The image moved by whole pixels, (x, y), at most its own size."""
    height, width, _ = image.shape
    padded = jnp.pad(image, ((height, height), (width, width), (0, 0)))
    return jax.lax.dynamic_slice(padded, (height - move[1], width - move[0], 0), image.shape)
