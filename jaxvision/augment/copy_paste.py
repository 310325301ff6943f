"""Copy-paste: objects of one image are pasted, along their masks, over another one, on the device.

An example is described in `jaxvision.augment.detection`.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from jaxvision.augment.compose import take_partners
from jaxvision.augment.detection import (
    check_example,
    checked_partners,
    clip_to,
    only_real_rows,
    sometimes,
    with_largest,
)
from jaxvision.augment.options import check_rule
from jaxvision.augment.sampling import inside_extent
from jaxvision.core import DetectionBatch, InputError, check_range
from jaxvision.ops import mean_in_cells, paint_masks
from jaxvision.ops.masks import FULL


@dataclass(frozen=True)
class CopyPaste:
    """Applies `copy_paste` to an example and a partner, with a probability.

    As steps before it in a `Compose` change the example and the partner independently,
    `(ScaleJitter(), RandomFlip(), CopyPaste())` is the augmentation of the paper.

    Attributes:
      probability: probability of copy-paste, in [0, 1].
      share: probability with which each object of the partner is pasted, in [0, 1].
      least_visible: see `copy_paste`.
      least_side: see `copy_paste`.
    """

    probability: float = 1.0
    share: float = 0.5
    least_visible: float = 0.0
    least_side: float = 1.0
    partners: ClassVar[int] = 1
    needs_masks: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_range("probability", self.probability, least=0, most=1)
        check_range("share", self.share, least=0, most=1)
        check_rule(self.least_visible, self.least_side)

    def __call__(self, key: Array, example: DetectionBatch) -> DetectionBatch:
        """Applies `copy_paste` and removes the first partner."""
        rule = {"least_visible": self.least_visible, "least_side": self.least_side}
        function = functools.partial(copy_paste, share=self.share, **rule)
        result = sometimes(key, example, function, self.probability)
        return result.replace(partners=take_partners(example, self.partners, "copy-paste")[1])


def copy_paste(
    key: Array,
    example: DetectionBatch,
    *,
    share: float = 0.5,
    least_visible: float = 0.0,
    least_side: float = 1.0,
) -> DetectionBatch:
    """Pastes objects of the first partner, cut out along their masks, over the example.

    Each object of the partner is pasted with the probability `share`, at its place in the partner's
    image; crowds are not pasted. A pixel is pasted if its mask is at least 1/2 there and if it is
    in the image without its padding. The masks of the objects beneath lose what is covered. Where
    this cuts a side off, the box ends at the last cell of which the object covers at least half;
    other sides of the box stay. An object beneath is dropped if no such cell is left, and by the
    rule of `clip_and_drop`, with the fraction of its mask that is left. Its keypoints under a
    pasted pixel become hidden. Pasted boxes are clipped to the image and dropped by that rule.

    The result has N rows again, in descending order of area (ties in the order of the images and
    their rows). If more than N boxes are left, the largest N are kept. It has the first proposals
    of both images, alternately.

    Args:
      key: key[].
      example: an example, as described above, with masks and a partner.
      share: probability with which each object of the partner is pasted, in [0, 1].
      least_visible: see `clip_and_drop`.
      least_side: see `clip_and_drop`.
    Returns:
      the example. The image has the dtype to which both images can be converted; mask, extent,
      index and partners do not change.
    Raises:
      InputError: there is no partner, there are no masks, or an option is out of range.
    Source: Ghiasi et al. 2021 ("Simple copy-paste is a strong data augmentation method for instance
      segmentation"), section 3.
    """
    check_range("share", share, least=0, most=1)
    check_rule(least_visible, least_side)
    example = check_example(example)
    other = jax.tree.map(lambda x: x[0], checked_partners(example, 1, "copy-paste"))
    if example.masks is None:
        raise InputError(
            "copy-paste pastes objects along their masks, and there are none: give examples masks, "
            "or leave it out"
        )
    image, both = _pasted(
        key, example.replace(partners=None), other, share, least_visible, least_side
    )
    return with_largest(example.replace(image=image), both)


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def _pasted(
    key: Array,
    example: DetectionBatch,
    other: DetectionBatch,
    share: float,
    least_visible: float,
    least_side: float,
) -> tuple[Array, DetectionBatch]:
    """Computes the image of `copy_paste`, [H, W, C], and the rows of both images, [2, ...]."""
    size, cells = example.image.shape[:2], example.masks.shape[1]
    extents = [jnp.array(size) if x.extent is None else x.extent for x in (example, other)]
    extent = jnp.minimum(*extents)
    window = jnp.concatenate([jnp.zeros(2), extent[::-1].astype(jnp.float32)])
    chosen = other.box_mask & ~other.crowd
    chosen &= jax.random.bernoulli(key, float(share), chosen.shape)
    above = clip_to(window, other.replace(box_mask=chosen), least_visible, least_side)

    def each(real: Array, body: Callable[[Array, Any], Any], start: Any) -> Any:
        """Loops over the rows that are real; for most images these are few."""
        order = jnp.argsort(~real)
        return jax.lax.fori_loop(0, real.sum(), lambda n, x: body(order[n], x), start)

    def paint(row: Array, pasted: Array) -> Array:
        mask = paint_masks(above.masks[row][None], above.mask_frames[row][None], size=size)[0]
        return pasted | (mask >= 0.5)

    pasted = inside_extent(each(above.box_mask, paint, jnp.zeros(size, bool)), extent, fill=False)
    visible = 1 - pasted.astype(jnp.float32)
    below = only_real_rows(example)

    def uncover(row: Array, masks: Array) -> Array:
        seen = mean_in_cells(visible, below.mask_frames[row][None], cells=cells)[0]
        return masks.at[row].set(jnp.round(masks[row] * seen).astype(masks.dtype))

    masks = each(below.box_mask, uncover, below.masks)
    boxes, left = _boxes_left(below, masks)
    before, after = (x.astype(jnp.float32).sum(axis=(1, 2)) for x in (below.masks, masks))
    sides = boxes[:, 2:] - boxes[:, :2]
    touched = after < before
    kept = left & (after >= least_visible * before) & (sides >= least_side).all(axis=1)
    below = below.replace(
        masks=masks,
        boxes=jnp.where(touched[:, None], boxes, below.boxes),
        box_mask=below.box_mask & (kept | ~touched),
    )
    if below.keypoints is not None:
        below = below.replace(keypoints=_hidden(below.keypoints, pasted))
    both = jax.tree.map(lambda x, y: jnp.stack([x, y]), only_real_rows(below), above)
    return jnp.where(pasted[:, :, None], other.image, example.image), both


def _boxes_left(example: DetectionBatch, masks: Array) -> tuple[Array, Array]:
    """Returns boxes, f32[N, 4], cut where masks were, and which masks are left, bool[N]."""
    start, end = jnp.split(example.mask_frames, 2, axis=1)
    count = masks.shape[1]

    def ends(masks: Array) -> Array:
        """The first cells along x and y, and those after the last, i32[N, 4]."""
        full = masks > FULL // 2
        used = [full.any(axis=axis) for axis in (1, 2)]
        first = [jnp.argmax(x, axis=1) for x in used]
        last = [count - jnp.argmax(x[:, ::-1], axis=1) for x in used]
        return jnp.stack([*first, *last], axis=1)

    before, after = ends(example.masks), ends(masks)
    place = jnp.tile(start, 2) + jnp.tile(end - start, 2) * after / count
    cut = jnp.where(before == after, example.boxes, place)
    first = jnp.maximum(cut[:, :2], example.boxes[:, :2])
    last = jnp.minimum(cut[:, 2:], example.boxes[:, 2:])
    return jnp.concatenate([first, last], axis=1), (masks > FULL // 2).any(axis=(1, 2))


def _hidden(keypoints: Array, pasted: Array) -> Array:
    """Returns the keypoints, f32[N, K, 3], hidden where the pixel is pasted."""
    height, width = pasted.shape
    x, y = (
        jnp.clip(jnp.floor(keypoints[..., axis]).astype(jnp.int32), 0, side - 1)
        for axis, side in ((0, width), (1, height))
    )
    level = keypoints[..., 2]
    level = jnp.where(pasted[y, x], jnp.minimum(level, 1), level)
    return keypoints.at[..., 2].set(level)
