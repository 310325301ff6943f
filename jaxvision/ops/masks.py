"""Masks of objects, cropped to frames of their own: M x M cells instead of an image's pixels.

A mask is an array of M x M cells, with the share of each cell that the object covers as a number in
0..255. Its frame is the rectangle of the image that its cells cover, xyxy, in pixels; a pixel's
left edge is x, its right edge x + 1. A frame may reach beyond the image. A frame without an area
stands for an empty mask.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxvision.core import at_least_float32, check_array, check_range
from jaxvision.ops.run_lengths import checked

FULL = 255
"""The value of a cell that an object covers completely."""


def crop_mask(mask: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Crops a mask to the smallest frame that contains it, on the host.

    Each cell gets the mean of the mask over the cell's area, times 255, rounded.

    Args:
      mask: bool[H, W].
      size: M, the number of cells along each side.
    Returns:
      u8[M, M] and the frame f64[4], xyxy, pixels; zeros for an empty mask.
    Raises:
      InputError: size is less than 1.
    """
    check_range("size", size, least=1)
    mask = checked("mask", mask, 2, np.bool_, "bool[H, W]")
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return np.zeros((size, size), np.uint8), np.zeros(4)
    top, left, bottom, right = rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
    part = mask[top:bottom, left:right].astype(np.float32)
    along_y, along_x = (_means(count, size) for count in part.shape)
    cells = np.rint(FULL * (along_y @ part @ along_x.T)).astype(np.uint8)
    return cells, np.array([left, top, right, bottom], np.float64)


def paint_masks(masks: Array, frames: Array, *, size: tuple[int, int]) -> Array:
    """Computes the masks in the pixels of an image, from their cells.

    A pixel has the value at its centre. Inside the frame, values are interpolated bilinearly
    between the centres of cells and constant beyond the outermost centres; outside they are 0.

    Args:
      masks: int[N, M, M], in 0..255.
      frames: f32[N, 4], xyxy, pixels.
      size: (height, width) of the image.
    Returns:
      f32[N, height, width], in 0..1.
    Raises:
      InputError: a side is less than 1.
    """
    masks, frames = check_masks(masks, frames)
    for side in size:
        check_range("a side of the image", side, least=1)
    along_y, along_x = (
        cell_weights(
            jnp.arange(count)[None] + 0.5, frames[:, axis], frames[:, axis + 2], masks.shape[1]
        )
        for axis, count in ((1, size[0]), (0, size[1]))
    )
    cells = masks.astype(frames.dtype) / FULL
    rows = jnp.einsum("nyi,nij->nyj", along_y, cells, precision=lax.Precision.HIGHEST)
    return jnp.einsum("nyj,nxj->nyx", rows, along_x, precision=lax.Precision.HIGHEST)


def mean_in_cells(x: Array, frames: Array, *, cells: int) -> Array:
    """Computes the means of an image's pixels over the areas of the cells of frames.

    So it crops a mask to given frames. What is outside the image counts as 0.

    Args:
      x: float[H, W], numbers of pixels.
      frames: f32[N, 4], xyxy, pixels.
      cells: M, the number of cells along each side.
    Returns:
      f32[N, M, M]; zeros where a frame has no area.
    Raises:
      InputError: cells is less than 1.
    """
    check_range("cells", cells, least=1)
    x = at_least_float32(check_array("x", x, ("H", "W")))
    frames = at_least_float32(check_array("frames", frames, ("N", 4)))

    def weights(axis: int) -> Array:
        start, end = frames[:, axis, None, None], frames[:, axis + 2, None, None]
        step = (end - start) / cells
        first = start + step * jnp.arange(cells)[None, :, None]
        pixel = jnp.arange(x.shape[1 - axis])[None, None]
        # From the pixel's left edge on, so that the numbers are small.
        overlap = jnp.clip(first + step - pixel, 0, 1) - jnp.clip(first - pixel, 0, 1)
        return jnp.where(step > 0, overlap / jnp.where(step > 0, step, 1), 0)

    rows = jnp.einsum("niy,yx->nix", weights(1), x, precision=lax.Precision.HIGHEST)
    return jnp.einsum("nix,njx->nij", rows, weights(0), precision=lax.Precision.HIGHEST)


def clip_masks(masks: Array, frames: Array, window: Array) -> Array:
    """Clips masks to a window: cells of which nothing is inside become 0.

    Cells that are partly inside keep their values, so that a mask may reach beyond the window by
    less than a cell, and so that clipping to the same window again changes nothing. A cell of which
    less than a thousandth of a side is inside counts as outside, because frames are rounded.

    Args:
      masks: int[N, M, M].
      frames: f32[N, 4], xyxy, pixels.
      window: f32[4], xyxy, pixels.
    Returns:
      int[N, M, M], of the dtype of the masks; zeros where a frame has no area.
    """
    masks, frames = check_masks(masks, frames)
    window = check_array("window", window, (4,))
    count = masks.shape[1]

    def inside(axis: int) -> Array:
        start, end = frames[:, axis, None], frames[:, axis + 2, None]
        step = (end - start) / count
        first = start + step * jnp.arange(count)[None]
        least, most = (jnp.clip(x, window[axis], window[axis + 2]) for x in (first, first + step))
        return (step > 0) & (most - least > 1e-3 * step)

    kept = inside(1)[:, :, None] & inside(0)[:, None, :]
    return jnp.where(kept, masks, jnp.zeros((), masks.dtype))


def cell_weights(position: Array, start: Array, end: Array, count: int) -> Array:
    """Returns the weights of a frame's cells at positions, along one axis; see `paint_masks`.

    Args:
      position: f32[N or 1, ...], pixels of the image.
      start: f32[N], where each frame begins.
      end: f32[N], where it ends.
      count: M, the number of cells.
    Returns:
      f32[N, ..., M]: zeros for positions outside the frame.
    """
    start, end = (x.reshape(-1, *(1,) * (position.ndim - 1)) for x in (start, end))
    inside = (position >= start) & (position < end)
    side = jnp.where(end > start, end - start, 1)
    cell = jnp.clip((position - start) / side * count - 0.5, 0, count - 1)
    cells = jnp.arange(count).reshape(*(1,) * position.ndim, count)
    weights = jnp.maximum(1 - jnp.abs(cell[..., None] - cells), 0)
    return jnp.where(inside[..., None], weights, 0)


def check_masks(masks: Array, frames: Array, name: str = "frames") -> tuple[Array, Array]:
    """Returns masks and frames as JAX arrays.

    Args:
      masks: int[N, M, M].
      frames: f32[N, 4].
      name: of the frames, for messages.
    Raises:
      AssertionError: an array has another shape or dtype.
    """
    masks = check_array("masks", masks, ("N", "M", "M"), "int")
    masks = check_array("masks", masks, ("N", masks.shape[2], masks.shape[2]), "int")
    frames = at_least_float32(check_array(name, frames, (len(masks), 4)))
    return masks, frames


def _means(count: int, size: int) -> np.ndarray:
    """Returns the weights of `count` pixels in the means over `size` cells, f32[size, count]."""
    edges, pixels = np.arange(size + 1) * (count / size), np.arange(count)
    first, last = edges[:-1, None], edges[1:, None]
    overlap = np.minimum(last, pixels + 1) - np.maximum(first, pixels)
    return (np.maximum(overlap, 0) * (size / count)).astype(np.float32)
