"""Augmentations that combine several images with boxes, on the device: for use under `jax.vmap`.

An example is a `DetectionBatch` without the batch axis: an image [H, W, C] in 0..255, and N rows of
boxes f32[N, 4] (xyxy, pixels), labels i32[N], box_mask, crowd and difficult bool[N], masks
u8[N, M, M] with mask_frames f32[N, 4] or None, and keypoints f32[N, K, 3] or None; perhaps
proposals f32[P, 4] with proposal_mask bool[P]. A pixel's left edge is x, its right edge x + 1. The
result has the same shapes. A box that leaves the image keeps its row, but gets box_mask False and
zeros for its box, mask, frame and keypoints (see `clip_and_drop`); its label and flags do not
change. The content of padded rows has no effect. Whether a box is dropped does not depend on its
mask, so that a box may stay although no cell of its mask is left.

Properties of the original image, such as `area`, `placement` and `size`, are not valid for the
result, and are None in it.
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
from jaxvision.augment.sampling import GREY, inside_extent
from jaxvision.core import DetectionBatch, InputError, check_array, check_choice, check_range
from jaxvision.ops import box_area, clip_masks

MOSAIC_OFFSETS = ("uniform", "cut")


@dataclass(frozen=True)
class Mosaic:
    """Applies `mosaic` to an example and three partners, with a probability.

    Attributes:
      probability: probability of the mosaic, in [0, 1].
      least_visible: see `clip_and_drop`.
      least_side: see `clip_and_drop`.
      margin: least distance of the centre from the borders, as a fraction of the side, in [0, 1/2].
      offset: see `mosaic`.
      bound: see `mosaic`.
    """

    probability: float = 1.0
    least_visible: float = 0.25
    least_side: float = 1.0
    margin: float = 0.2
    offset: str = "uniform"
    bound: bool = True
    partners: ClassVar[int] = 3

    def __post_init__(self) -> None:
        check_range("probability", self.probability, least=0, most=1)
        check_rule(self.least_visible, self.least_side)
        check_range("margin", self.margin, least=0, most=0.5)
        check_choice("offset", self.offset, MOSAIC_OFFSETS)

    def __call__(self, key: Array, example: DetectionBatch) -> DetectionBatch:
        """Applies `mosaic` and removes the first three partners."""
        rule = {"least_visible": self.least_visible, "least_side": self.least_side}
        how = {"margin": self.margin, "offset": self.offset, "bound": self.bound}
        function = functools.partial(mosaic, **how, **rule)
        result = sometimes(key, example, function, self.probability)
        return result.replace(partners=take_partners(example, self.partners, "mosaic")[1])


@dataclass(frozen=True)
class Mixup:
    """Applies `mixup` to an example and a partner, with a probability.

    Attributes:
      probability: probability of mixup, in [0, 1].
      alpha: the weight of the first image is drawn from Beta(alpha, alpha); more than 0. A larger
        value gives weights closer to 1/2.
    """

    probability: float = 1.0
    alpha: float = 1.5
    partners: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_range("probability", self.probability, least=0, most=1)
        check_range("alpha", self.alpha, more_than=0, less_than=math.inf)

    def __call__(self, key: Array, example: DetectionBatch) -> DetectionBatch:
        """Applies `mixup` and removes the first partner."""
        function = functools.partial(mixup, alpha=self.alpha)
        result = sometimes(key, example, function, self.probability)
        return result.replace(partners=take_partners(example, self.partners, "mixup")[1])


def clip_and_drop(
    example: DetectionBatch, *, least_visible: float = 0.25, least_side: float = 1.0
) -> DetectionBatch:
    """Clips the boxes to the image and drops the boxes of which too little is left.

    A box is dropped if the fraction of its area inside the image is less than `least_visible`, if a
    side of the part inside is shorter than `least_side`, or if it has no area. Its row stays, with
    box_mask False and zeros for its box, mask, frame and keypoints. Padded rows get the same. Cells
    of masks outside the image become 0, see `jaxvision.ops.clip_masks`; frames are not clipped.

    All augmentations by which boxes can leave the image apply this rule at the end. The fraction
    refers to the boxes before this augmentation; parts that an earlier one has clipped do not
    count.

    Args:
      example: an example, as described above; boxes may reach beyond the image.
      least_visible: least fraction of a box's area that must stay visible, in [0, 1].
      least_side: least length of the sides of a box's visible part, pixels, at least 0.
    Returns:
      the example with new boxes, box_mask, masks, mask_frames and keypoints.
    Raises:
      InputError: an option is out of range.
    """
    check_rule(least_visible, least_side)
    example = check_example(example)
    height, width, _ = example.image.shape
    window = jnp.array([0, 0, width, height], jnp.float32)
    return clip_to(window, example, least_visible, least_side)


def mosaic(
    key: Array,
    example: DetectionBatch,
    *,
    margin: float = 0.2,
    least_visible: float = 0.25,
    least_side: float = 1.0,
    offset: str = "uniform",
    bound: bool = True,
) -> DetectionBatch:
    """Combines four images around a random centre: the example and its first three partners.

    The centre (x, y) is drawn in whole pixels; each coordinate is uniform among those at least
    `margin` of the side away from the borders. It divides the result, which has the size of one
    image, into four parts: the example is upper left, and the partners are upper right, lower left
    and lower right. Each part is a crop of its image with the size of the part, at an offset that
    is uniform among all possible whole pixels. Nothing is scaled or interpolated; to change the
    scale, apply another augmentation before or after this one. The padding of an image counts as
    outside of it: an image that is smaller than its part is at a uniform position in it, and the
    rest is grey (127).

    Boxes, masks and keypoints move with their images. They are clipped and dropped by the rule of
    `clip_and_drop`, with the part in place of the image. The result has N rows again, in descending
    order of area (ties in the order of the images and their rows). If more than N boxes are left,
    the largest N are kept. Proposals move and are dropped as boxes; of all that are left the result
    has the first of each image, then the second of each, and so on. The extent of the result is the
    whole image.

    Args:
      key: key[].
      example: an example, as described above, with at least 3 partners.
      margin: least distance of the centre from the borders, as a fraction of the side, in [0, 1/2].
      least_visible: see `clip_and_drop`.
      least_side: see `clip_and_drop`.
      offset: where in its image a part is: "uniform", as above; or "cut", at the corner that
        touches the centre, such as the lower right one of the upper left image, as in Darknet.
      bound: whether boxes, masks and keypoints are clipped to their part; False: to the whole
        result, as in Darknet, where a box may reach into another part that hides its object.
    Returns:
      the example. The image keeps its dtype; mask, index and partners do not change.
    Raises:
      InputError: there are fewer than 3 partners, or an option is out of range.
    Source: Bochkovskiy et al. 2020 ("YOLOv4"), section 3.3, figure 3.
    """
    check_range("margin", margin, least=0, most=0.5)
    check_choice("offset", offset, MOSAIC_OFFSETS)
    check_rule(least_visible, least_side)
    example = check_example(example)
    partners = checked_partners(example, 3, "mosaic")
    four = jax.tree.map(
        lambda x, others: jnp.concatenate([x[None], others]),
        example.replace(partners=None),
        partners,
    )
    image, parts = _parts_of_mosaic(
        key, four, margin, (least_visible, least_side), offset=offset, bound=bound
    )
    result = with_largest(example.replace(image=image), parts)
    if example.extent is None:
        return result
    return result.replace(extent=jnp.array(image.shape[:2], jnp.int32))


def mixup(key: Array, example: DetectionBatch, *, alpha: float = 1.5) -> DetectionBatch:
    """Blends an example with its first partner, with a weight drawn from Beta(alpha, alpha).

    Args:
      key: key[].
      example: an example, as described above, with partners.
      alpha: more than 0. A larger value gives weights closer to 1/2.
    Returns:
      the result of `blend`; the partners do not change.
    Raises:
      InputError: there is no partner, or alpha is out of range.
    Source: Zhang et al. 2019 ("Bag of freebies for training object detection neural networks"),
      section 3.1.
    """
    check_range("alpha", alpha, more_than=0, less_than=math.inf)
    example = check_example(example)
    other = jax.tree.map(lambda x: x[0], checked_partners(example, 1, "mixup"))
    return blend(example, other, jax.random.beta(key, alpha, alpha))


def blend(example: DetectionBatch, other: DetectionBatch, share: Array) -> DetectionBatch:
    """Blends two images, share times the first plus 1 - share times the second, with all boxes.

    All boxes and masks have full weight, whatever the share, as in YOLOX (Ge et al. 2021). The
    result has N rows again, in descending order of area (ties in the order of the images and their
    rows). If there are more than N boxes, the largest N are kept. It has the first proposals of
    both images, alternately. Its extent is the larger one along each side. Where only one of the
    images is, the other one counts as grey (127).

    Args:
      example: an example, as described above.
      other: another example with the same shapes.
      share: f32[], weight of the first image, in [0, 1].
    Returns:
      the example. The image is float32; mask, index and partners do not change.
    Source: Zhang et al. 2019 ("Bag of freebies for training object detection neural networks"),
      section 3.1.
    """
    example = check_example(example)
    other = check_example(other, "other.", example)
    share = check_array("share", share, ()).astype(jnp.float32)
    image = share * _with_grey(example) + (1 - share) * _with_grey(other)
    both = jax.tree.map(
        lambda x, y: jnp.stack([x, y]), example.replace(partners=None), other.replace(partners=None)
    )
    result = with_largest(example.replace(image=image), both)
    if example.extent is None:
        return result
    return result.replace(extent=jnp.maximum(example.extent, other.extent))


def _with_grey(example: DetectionBatch) -> Array:
    """Returns the image, grey in its padding."""
    if example.extent is None:
        return example.image
    return inside_extent(example.image, example.extent)


_FLAGS = {"labels": "int", "crowd": "bool", "difficult": "bool"}
"""Fields with a row for each box that no augmentation of one image changes, and their dtypes."""
_PLACES = ("boxes", "masks", "mask_frames", "keypoints")
"""Fields with a row for each box that describe a place in the image."""


def sometimes(
    key: Array,
    example: DetectionBatch,
    function: Callable[[Array, DetectionBatch], DetectionBatch],
    probability: float,
) -> DetectionBatch:
    """Applies a function with a probability; see `with_probability`."""
    if probability == 1:
        return function(key, example)
    return with_probability(key, example, function, probability=probability)


def check_example(
    example: DetectionBatch, prefix: str = "", like: DetectionBatch | None = None
) -> DetectionBatch:
    """Returns the example as JAX arrays, after a check of shapes and dtypes (those of `like`).

    Properties of the original image are set to None.
    """
    given = fields_of(example, prefix=prefix, like=like)
    changed = {name: x for kind in SHAPES for name, x in given[kind].items()}
    count = changed["boxes"].shape[:1]
    for name, dtype in _FLAGS.items():
        changed[name] = check_array(f"{prefix}{name}", getattr(example, name), count, dtype)
    return example.replace(**changed, **dict.fromkeys(given["placement"]))


def checked_partners(example: DetectionBatch, count: int, what: str) -> DetectionBatch:
    """Returns the first `count` partners of the example, after a check."""
    if example.labels_only is not None:
        raise InputError(f"{what} needs the boxes of all images: leave out those of labels alone")
    partners, _ = take_partners(example, count, what)
    return jax.vmap(lambda other: check_example(other, "partners.", example))(partners)


def only_real_rows(example: DetectionBatch) -> DetectionBatch:
    """Sets boxes, masks, frames and keypoints to zeros in padded rows."""
    rows = {name: getattr(example, name) for name in _PLACES}
    rows = {name: only_real(x, example.box_mask) for name, x in rows.items() if x is not None}
    if example.proposals is not None:
        rows["proposals"] = only_real(example.proposals, example.proposal_mask)
    return example.replace(**rows)


def clip_to(
    window: Array, example: DetectionBatch, least_visible: float, least_side: float
) -> DetectionBatch:
    """Applies `clip_and_drop` with any window, f32[4], in place of the image."""
    boxes, kept = clip_and_keep(example.boxes, example.box_mask, window, least_visible, least_side)
    example = example.replace(boxes=boxes, box_mask=kept)
    if example.proposals is not None:
        given = example.proposals, example.proposal_mask
        boxes, kept = clip_and_keep(*given, window, least_visible, least_side)
        example = example.replace(proposals=boxes, proposal_mask=kept)
    if example.keypoints is not None:
        example = example.replace(keypoints=_keypoints_in(window, example.keypoints))
    if example.masks is not None:
        example = example.replace(masks=clip_masks(example.masks, example.mask_frames, window))
    return only_real_rows(example)


def _keypoints_in(window: Array, keypoints: Array) -> Array:
    """Returns the keypoints, f32[N, K, 3], with zeros for those outside the window."""
    place = keypoints[..., :2]
    inside = (place >= window[:2][None, None]) & (place <= window[2:][None, None])
    there = inside.all(axis=-1) & (keypoints[..., 2] > 0)
    return jnp.where(there[..., None], keypoints, 0)


@jax.jit
def with_largest(example: DetectionBatch, several: DetectionBatch) -> DetectionBatch:
    """Returns the example with the largest boxes and the first proposals of several [K, ...]."""
    rows = {name: getattr(several, name) for name in (*_PLACES, "box_mask", *_FLAGS)}
    rows = {name: jnp.concatenate([*x]) for name, x in rows.items() if x is not None}
    boxes, real = rows["boxes"], rows["box_mask"]
    area = jnp.where(real, box_area(only_real(boxes, real)), -1)
    largest = jnp.argsort(area, descending=True)[: len(example.boxes)]
    rows = {name: x[largest] for name, x in rows.items()}
    if example.proposals is not None:
        # The first one of each example, then the second one of each, and so on.
        boxes = several.proposals.swapaxes(0, 1).reshape(-1, 4)
        real = several.proposal_mask.swapaxes(0, 1).reshape(-1)
        first = jnp.argsort(~real, stable=True)[: len(example.proposals)]
        rows |= {"proposals": boxes[first], "proposal_mask": real[first]}
    return only_real_rows(example.replace(**rows))


@functools.partial(jax.jit, static_argnames=("margin", "rule", "offset", "bound"))
def _parts_of_mosaic(
    key: Array,
    four: DetectionBatch,
    margin: float,
    rule: tuple[float, float],
    *,
    offset: str,
    bound: bool,
) -> tuple[Array, DetectionBatch]:
    """Computes the image of a mosaic, [H, W, C], and the rows of its four parts."""
    # From here on x comes first, as in boxes: [2], or [4, 2] for the four parts.
    sides = four.image.shape[2:0:-1]
    size, nearest = jnp.array(sides), jnp.array([int(margin * side) for side in sides])
    centre_key, offset_key = jax.random.split(key)
    centre = jax.random.randint(centre_key, (2,), nearest, size - nearest + 1)
    after = jnp.array([[False, False], [True, False], [False, True], [True, True]])
    begin = jnp.where(after, centre[None], 0)
    end = jnp.where(after, size[None], centre[None])
    extents = size[None] if four.extent is None else four.extent[:, ::-1]
    spare = extents - (end - begin)
    if offset == "cut":
        start = jnp.where(after, 0, spare)
    else:
        least, most = jnp.minimum(spare, 0), jnp.maximum(spare, 0)
        start = jax.random.randint(offset_key, (4, 2), least, most + 1)
    move = begin - start
    # Four separate slices: one batched slice under vmap takes ten times as long on a CPU.
    parts = [jax.tree.map(lambda x, k=k: x[k], four) for k in range(4)]
    images = [_translate(_with_grey(part), move[k], fill=GREY) for k, part in enumerate(parts)]
    left = (jnp.arange(sides[0]) < centre[0])[None, :, None]
    upper = (jnp.arange(sides[1]) < centre[1])[:, None, None]
    image = jnp.where(
        upper, jnp.where(left, images[0], images[1]), jnp.where(left, images[2], images[3])
    )
    corners = jnp.tile(move, 2)[:, None]
    moved = four.replace(boxes=four.boxes + corners)
    if four.proposals is not None:
        moved = moved.replace(proposals=four.proposals + corners)
    if four.masks is not None:
        moved = moved.replace(mask_frames=four.mask_frames + corners)
    if four.keypoints is not None:
        shift = jnp.concatenate([move, jnp.zeros_like(move[:, :1])], axis=1)[:, None, None]
        moved = moved.replace(keypoints=four.keypoints + shift)
    if not bound:
        begin, end = jnp.zeros_like(begin), jnp.broadcast_to(size[None], end.shape)
    windows = jnp.concatenate([begin, end], axis=1).astype(jnp.float32)
    clip = jax.vmap(lambda window, part: clip_to(window, part, *rule))
    return image, clip(windows, moved)


def _translate(image: Array, move: Array, *, fill: float) -> Array:
    """Moves an image by whole pixels, (x, y), at most by its own size."""
    height, width, _ = image.shape
    sides = ((height, height), (width, width), (0, 0))
    padded = jnp.pad(image, sides, constant_values=jnp.asarray(fill, image.dtype))
    return jax.lax.dynamic_slice(padded, (height - move[1], width - move[0], 0), image.shape)
