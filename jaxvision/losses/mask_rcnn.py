"""The mask head of Mask R-CNN: targets of proposals, and the loss."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxvision.core import (
    InputError,
    Terms,
    at_least_float32,
    check_array,
    check_choice,
    check_range,
)
from jaxvision.losses.detection import PER, check_labels, normalized_terms, of_match
from jaxvision.losses.elements import sigmoid_cross_entropy
from jaxvision.losses.reduction import sum_counted
from jaxvision.ops.masks import FULL, cell_weights, check_masks

ADAPTIVE = -1
"""A sampling ratio that stands for a number of samples that depends on the size of a bin."""
# Number of proposals whose masks are gathered at once; it bounds the memory.
_CHUNK = {"full": 4, "cropped": 64}


def mask_targets(
    masks: Array,
    proposals: Array,
    matches: Array,
    mask_frames: Array | None = None,
    size: Array | None = None,
    *,
    output_size: int = 28,
    sampling_ratio: int = ADAPTIVE,
) -> Array:
    """Computes the masks inside proposals, by RoIAlign of the mask of each proposal's object.

    As in torchvision, pixel (0, 0) of a mask is at (0, 0) (`roi_align` with aligned=False), sides
    of proposals are at least one pixel, samples beyond [-1, side] are 0, and the result is not
    thresholded. The mean over a bin's grid of samples is a product of three matrices, A_y mask
    A_x^T, because the weights of a sample are products of those along y and along x.

    Masks in the pixels of the image give torchvision's targets. Cropped masks give the targets of
    the masks that `paint_masks` computes from them, but no such mask is computed, and no array has
    R x H x W numbers. docs/masks.md has the difference between the two.

    Args:
      masks: bool[G, H, W], the objects' masks, or floats in [0, 1]; with `mask_frames`
        int[G, M, M] in 0..255, see `jaxvision.core.DetectionBatch`. No gradient flows to them.
      proposals: f32[R, 4], xyxy, pixels, clipped to the image.
      matches: i32[R]: the index of an object; `NEGATIVE` and `IGNORE` give zeros. The index of an
        object that does not exist gives NaN.
      mask_frames: f32[G, 4], xyxy, pixels, or None for masks in the pixels of the image.
      size: i32[2], (height, width) of the image without its padding; None: (H, W). It is needed
        with `mask_frames`.
      output_size: number of bins along each side.
      sampling_ratio: number of samples along each side of a bin, or -1: as many as the bin has
        pixels, rounded up, but at most as many as a bin of the whole image has.
    Returns:
      f32[R, output_size, output_size], in [0, 1].
    Raises:
      ValueError: G is 0, an option is out of range, or size is missing.
    Source: He et al. 2017 ("Mask R-CNN"), section 3; sampling as in torchvision's
      `project_masks_on_boxes`.
    """
    check_range("output_size", output_size, least=1)
    if sampling_ratio != ADAPTIVE:
        check_range("sampling_ratio", sampling_ratio, least=1)
    proposals = at_least_float32(check_array("proposals", proposals, ("R", 4)))
    matches = check_array("matches", matches, proposals.shape[:1], "int")
    if mask_frames is None:
        if jnp.asarray(masks).dtype != bool:
            masks = at_least_float32(check_array("masks", masks, ("G", "H", "W")))
        masks = check_array("masks", masks, ("G", "H", "W"), "number or bool")
        size = masks.shape[1:] if size is None else size
    else:
        if size is None:
            raise InputError("size is missing: give (height, width) of the image with mask_frames")
        masks, mask_frames = check_masks(masks, mask_frames, "mask_frames")
    size = check_array("size", size, (2,), "int")
    if not len(masks):
        raise InputError("the ground truth has 0 rows: pad it to at least one, with a mask")
    given = lax.stop_gradient((masks, mask_frames, proposals))
    return _targets(*given, matches, size, output_size, sampling_ratio)


def mask_rcnn_loss(
    mask_logits: Array,
    proposals: Array,
    matches: Array,
    labels: Array,
    masks: Array,
    mask_frames: Array | None = None,
    size: Array | None = None,
    *,
    sampling_ratio: int = ADAPTIVE,
    per: str = "batch",
) -> Terms:
    """Computes the loss of the masks of Mask R-CNN. The box head decides the class of a mask.

    "mask" is the mean of BCE(x, y) over the foreground proposals and their bins, with x the logits
    of the object's class and y the targets of `mask_targets`. It is 0 if there is no foreground.
    With per="batch" the mean is over the foreground of the batch, as in torchvision; with "image",
    the mean over images is taken.

    Args:
      mask_logits: f32[R, S, S, K].
      proposals: f32[R, 4], xyxy, pixels, clipped to the image.
      matches: i32[R]: the index of an object; `NEGATIVE` and `IGNORE` do not count. The index of an
        object that does not exist gives NaN.
      labels: i32[G], from 0 to K - 1. Any other label gives NaN if its object is matched.
      masks: see `mask_targets`.
      mask_frames: see `mask_targets`.
      size: see `mask_targets`.
      sampling_ratio: see `mask_targets`.
      per: "batch" or "image", whose foreground the term is divided by.
    Returns:
      {"mask": (total, number of bins of the foreground)}, or (total, 1) per image, f32[].
    Raises:
      ValueError: G is 0, an option is out of range, or size is missing.
    Source: He et al. 2017 ("Mask R-CNN"), section 3.
    """
    check_choice("per", per, PER)
    x = at_least_float32(check_array("mask_logits", mask_logits, ("R", "S", "S", "K")))
    x = check_array("mask_logits", x, (len(x), x.shape[1], x.shape[1], "K"))
    proposals = check_array("proposals", proposals, (len(x), 4))
    labels = check_labels(labels, ("G",), x.shape[-1])
    masks = check_array("masks", masks, (len(labels), "H", "W"), "number or bool")
    targets = mask_targets(
        masks,
        proposals,
        matches,
        mask_frames,
        size,
        output_size=x.shape[1],
        sampling_ratio=sampling_ratio,
    )
    foreground = jnp.asarray(matches) >= 0
    classes = of_match(labels, jnp.asarray(matches))
    of_class = jnp.take_along_axis(x, classes[:, None, None, None], axis=-1)[..., 0]
    total, count = sum_counted(sigmoid_cross_entropy, foreground, of_class, targets.astype(x.dtype))
    return normalized_terms({"mask": total}, count, per)


# Compiled as a whole, so that an eager call compiles once.
@functools.partial(jax.jit, static_argnums=(5, 6))
def _targets(
    masks: Array,
    frames: Array | None,
    proposals: Array,
    matches: Array,
    size: Array,
    bins: int,
    ratio: int,
) -> Array:
    def one(given: tuple[Array, Array]) -> Array:
        proposal, match = given
        mask = of_match(masks, match).astype(proposal.dtype)
        frame = None if frames is None else of_match(frames, match)
        proposal = jnp.where(match >= 0, proposal, 0)
        along_y, along_x = (
            _weights(proposal, frame, axis, size[1 - axis], mask.shape[1 - axis], bins, ratio)
            for axis in (1, 0)
        )
        inside = jnp.matmul(along_y, mask, precision=lax.Precision.HIGHEST)
        inside = jnp.matmul(inside, along_x.T, precision=lax.Precision.HIGHEST)
        inside = jnp.where(match >= 0, inside, 0)
        return jnp.where(match < len(masks), inside, jnp.nan)

    chunk = _CHUNK["full" if frames is None else "cropped"]
    targets = lax.map(one, (proposals, matches), batch_size=chunk)
    return targets if frames is None else targets / FULL


def _weights(
    proposal: Array, frame: Array | None, axis: int, side: Array, cells: int, bins: int, ratio: int
) -> Array:
    """Returns the weights of a mask's cells in the bins of a proposal, along one axis.

    Args:
      proposal: f32[4], xyxy.
      frame: f32[4], xyxy, or None if the cells are pixels.
      axis: 0 for x, 1 for y.
      side: i32[], number of pixels of the image along the axis.
      cells: M, number of cells along the axis.
      bins: number of bins.
      ratio: number of samples in each bin, or `ADAPTIVE`.
    Returns:
      f32[bins, M].
    """
    start = proposal[axis]
    length = jnp.maximum(proposal[axis + 2] - start, 1) / bins
    count: Any = ratio
    if ratio == ADAPTIVE:
        most = jnp.maximum(-(-side // bins), 1)
        count = jnp.clip(jnp.ceil(length).astype(jnp.int32), 1, most)
    first, last = start.dtype.type(0), (side - 1).astype(start.dtype)

    def of_pixels(pixel: Array) -> Array:
        if frame is None:
            return (pixel[:, None] == jnp.arange(cells)[None]).astype(pixel.dtype)
        return cell_weights(pixel[None] + 0.5, frame[axis, None], frame[axis + 2, None], cells)[0]

    def add(step: Array, total: Array) -> Array:
        place = start + (jnp.arange(bins) + (step + 0.5) / count) * length
        inside = (place >= -1) & (place <= side)
        place = jnp.clip(place, first, last)
        before = jnp.floor(place)
        share = (place - before)[:, None]
        weights = (1 - share) * of_pixels(before)
        weights += share * of_pixels(jnp.minimum(before + 1, last))
        return total + jnp.where(inside[:, None], weights, 0)

    return lax.fori_loop(0, count, add, jnp.zeros((bins, cells), start.dtype)) / count
