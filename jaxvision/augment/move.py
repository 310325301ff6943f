"""Geometric changes of an example, by the kind of each of its fields.

A `Move` has the functions by which one draw of an augmentation changes images, labels of pixels,
points and masks; `apply_move` applies them to all fields of a batch struct. Each augmentation is
thus written once, for every struct of `jaxvision.core` and for the structs of users.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxvision.augment.options import check_rule, check_swap
from jaxvision.augment.sampling import (
    GREY,
    inside_extent,
    resized_crop,
    resized_crop_points,
    warp,
)
from jaxvision.core import (
    IGNORED,
    KINDS,
    InputError,
    OptionError,
    annotations_of,
    at_least_float32,
    check_array,
)
from jaxvision.ops import box_area, clip_masks

E = TypeVar("E")

SHAPES: dict[str, tuple[tuple[str, ...], str]] = {
    "image": (("H", "W", "C"), "number"),
    "boxes": (("N", 4), "float"),
    "box_mask": (("N",), "bool"),
    "proposals": (("P", 4), "float"),
    "proposal_mask": (("P",), "bool"),
    "masks": (("N", "M", "M"), "int"),
    "mask_frames": (("N", 4), "float"),
    "keypoints": (("N", "K", 3), "float"),
    "pixels": (("H", "W"), "int"),
    "points": (("K", 2), "float"),
    "visible": (("K",), "bool"),
    "extent": ((2,), "int"),
}
"""Shape and dtype, for one example, of each kind of annotation with a place in the image."""
PLACED = ("boxes", "proposals", "masks", "points", "keypoints")
"""The kinds that an augmentation moves by `Move.points`."""
_SHARED = ("H", "W", "N", "K", "P")
_CORNERS = np.array([0, 1, 2, 1, 0, 3, 2, 3], np.int32)  # the same with and without 64 bits
"""The coordinates of a box's four corners: the first, right of it, below it, and opposite."""


class Move(NamedTuple):
    """The changes of one draw of a geometric augmentation.

    Attributes:
      image: [H, W, C] -> [H, W, C]: bilinear, with the augmentation's own fill.
      nearest: (labels [H, W], fill) -> [H, W] of the same dtype: each pixel of the result has the
        value of one of the given pixels, or `fill` outside the image.
      points: f32[N, 2] -> f32[N, 2], (x, y) in pixels; a pixel's left edge is x, its right edge
        x + 1. None: the positions of points in the result are unknown.
      mirrored: bool[], whether left and right are exchanged.
      extent: i32[2], (height, width) of the result without padding. Boxes are clipped to it, and
        points beyond it become invisible. None: the smallest that contains all visible parts of
        the example's extent; boxes and points are then clipped to the image.
      cells: int[N, M, M] -> int[N, M, M]: the cells of masks in the order in which they are in the
        moved frames. None: masks are resampled, and `points` must be an affine map.
    """

    image: Callable[[Array], Array]
    nearest: Callable[[Array, int], Array]
    points: Callable[[Array], Array] | None
    mirrored: Array
    extent: Array | None = None
    cells: Callable[[Array], Array] | None = None


def same_cells(masks: Array) -> Array:
    """Returns the masks: the `cells` of a move that neither turns nor mirrors."""
    return masks


def window_move(
    window: Array,
    *,
    size: tuple[int, int] | Array,
    fill: float | tuple[float, ...] = GREY,
    extent: tuple[int, int] | Array | None = None,
) -> Move:
    """Returns a move that crops a window and resizes it.

    Args:
      window: f32[4], as for `resized_crop`.
      size: (height, width) to which the window is resized: that of the image, or less; what is at
        the right of it and below becomes padding.
      fill: value of the pixels outside the image, or one for each channel.
      extent: (height, width) of the image without its padding, which counts as outside the image;
        None: `size`.
    """
    window = check_array("window", window, (4,))
    size = jnp.asarray(size, jnp.int32)
    extent = size if extent is None else jnp.asarray(extent, jnp.int32)

    def crop(image: Array, **how: Any) -> Array:
        # The window that the whole of the result shows, with its padding.
        more = jnp.array(image.shape[1::-1]) / size[::-1] - 1
        whole = window.at[2:].add((window[2:] - window[:2]) * more)
        return inside_extent(
            resized_crop(image, whole, extent=extent, **how), size, fill=how["fill"]
        )

    def nearest(labels: Array, fill: int) -> Array:
        return crop(labels[:, :, None], method="nearest", fill=fill)[:, :, 0]

    return Move(
        image=lambda image: crop(image, fill=fill),
        nearest=nearest,
        points=lambda points: resized_crop_points(points, window, size=size),
        mirrored=jnp.bool_(False),
        extent=size,
        cells=same_cells,
    )


def flip_move(*, size: tuple[int, int] | Array, happens: Array | bool = True) -> Move:
    """Returns a move that flips horizontally, x' = W - x. Images keep their dtype.

    Args:
      size: (height, width) = (H, W) of the image without its padding, which stays where it is.
      happens: bool[]; if it is False, nothing changes.
    """
    happens, size = jnp.asarray(happens), jnp.asarray(size, jnp.int32)
    width = size[1]

    def flip(image: Array) -> Array:
        return take(image, flipped_index(image.shape[1], width, happens), axis=1)

    def points(points: Array) -> Array:
        x, y = points[:, 0], points[:, 1]
        return jnp.stack([jnp.where(happens, width - x, x), y], axis=1)

    def cells(masks: Array) -> Array:
        return jnp.where(happens, masks[:, :, ::-1], masks)

    return Move(flip, lambda labels, fill: flip(labels), points, happens, size, cells)


def flipped_index(count: int, side: Array, happens: Array) -> Array:
    """Returns the source, i32[count], of each pixel along an axis of a flipped image.

    Args:
      count: number of pixels along the axis.
      side: i32[], number of those that are not padding, which stays where it is.
      happens: bool[]; if it is False, nothing changes.
    """
    index = jnp.arange(count)
    return jnp.where(happens & (index < side), side - 1 - index, index)


def take(image: Array, index: Array, *, axis: int) -> Array:
    """Returns the rows (axis 0) or columns (axis 1) of an image in another order."""
    place = (slice(None),) * axis + (index,)
    return image.at[place].get(mode="promise_in_bounds")


def apply_move(
    example: E,
    move: Move,
    *,
    least_visible: float = 0.25,
    least_side: float = 1.0,
    swap: Sequence[int] = (),
) -> E:
    """Applies a move to all fields of an example, by their kinds.

    - "image" is changed by `move.image`, "pixels" by `move.nearest`, with `IGNORED` outside the
      image.
    - "boxes" become the upright boxes around their four moved corners. They are clipped to the
      image without its padding and dropped by the rule of `clip_and_drop`: a dropped box keeps its
      row, with "box_mask" False and zeros for its box, mask, frame and keypoints. The same holds
      for boxes without an area and for padded rows, whose content has no effect.
    - "proposals" are moved and dropped as boxes are, with "proposal_mask".
    - "mask_frames" become the upright frames around their four moved corners, which are not
      clipped. "masks" are changed by `move.cells`, or resampled; then their cells outside the image
      become 0, see `jaxvision.ops.clip_masks`.
    - "points" and "keypoints" are moved. Those outside the image become invisible, and the
      coordinates of invisible ones are zeros. In a mirrored image they are exchanged by `swap`.
    - "extent" becomes `move.extent`, or the smallest extent that contains all visible parts of
      the former extent.
    - "placement" becomes None, because it no longer describes the image. "fixed" does not change.

    Args:
      example: a batch struct without its leading axis; see `jaxvision.core.annotation`.
      move: the move.
      least_visible: see `clip_and_drop`.
      least_side: see `clip_and_drop`.
      swap: for each point the index of its mirrored counterpart; (): no points are exchanged.
    Returns:
      the example.
    Raises:
      InputError: an option is out of range, the struct has boxes, masks or points and `move.points`
        is None, or it does not have one field of masks and one of frames.
    """
    check_rule(least_visible, least_side)
    swap = check_swap(swap)
    given = fields_of(example)
    if move.points is None:
        refuse(example, PLACED, "this augmentation")
    changed = {name: move.image(x) for name, x in given["image"].items()}
    size = jnp.array(next(iter(changed.values())).shape[:2], jnp.int32)
    if move.extent is not None:
        size = move.extent
    changed |= {name: move.nearest(x, IGNORED) for name, x in given["pixels"].items()}
    masks = _moved_masks(given, move, size)
    keypoints = dict(given["keypoints"])
    if given["boxes"]:
        (name, boxes), (mask_name, real) = _only(given, "boxes"), _only(given, "box_mask")
        boxes, real = _moved_boxes(boxes, real, move.points, size, least_visible, least_side)
        changed |= {name: boxes, mask_name: real}
        masks = {name: only_real(x, real) for name, x in masks.items()}
        keypoints = {name: only_real(x, real) for name, x in keypoints.items()}
    if given["proposals"]:
        (name, boxes), (mask_name, real) = (
            _only(given, kind) for kind in ("proposals", "proposal_mask")
        )
        boxes, real = _moved_boxes(boxes, real, move.points, size, least_visible, least_side)
        changed |= {name: boxes, mask_name: real}
    changed |= masks
    for name, x in keypoints.items():
        place, visible = _moved_points(x[..., :2], x[..., 2] > 0, move, size, swap)
        level = jnp.where(visible, _exchanged(x[..., 2], move, swap), 0)
        changed[name] = jnp.concatenate([place, level[..., None]], axis=-1)
    if given["points"]:
        (name, points), (mask_name, visible) = (
            _only(given, kind) for kind in ("points", "visible")
        )
        changed[name], changed[mask_name] = _moved_points(points, visible, move, size, swap)
    for name, x in given["extent"].items():
        moved = _moved_extent(x, move.points, size) if move.extent is None else move.extent
        changed[name] = moved.astype(x.dtype)
    return example.replace(**changed, **dict.fromkeys(given["placement"]))


def change_images(example: E, change: Callable[[Array], Array]) -> E:
    """Changes only the images of an example, all in the same way.

    Args:
      example: a batch struct without its leading axis.
      change: [H, W, C] -> [H, W, C].
    """
    kinds = annotations_of(example)
    images = {name: getattr(example, name) for name, kind in kinds.items() if kind == "image"}
    return example.replace(**{name: change(x) for name, x in images.items() if x is not None})


def image_size(example: Any) -> tuple[int, int]:
    """Returns the (height, width) of an example's image.

    Raises:
      AssertionError: the images do not all have the same size.
      InputError: the example has no image.
    """
    return next(iter(fields_of(example)["image"].values())).shape[:2]


def extent_in(example: Any) -> Array:
    """Returns the (height, width), i32[2], of an example's image without its padding.

    It is at least 1 along each side, also for the filler images of a batch.
    """
    given = fields_of(example)["extent"]
    if not given:
        return jnp.array(image_size(example), jnp.int32)
    return jnp.maximum(next(iter(given.values())).astype(jnp.int32), 1)


def box_fields(example: Any) -> tuple[str, Array, Array] | None:
    """Returns the boxes of an example, or None if it has none.

    Returns:
      the name of the field of the kind "box_mask", the boxes f32[N, 4], and the mask bool[N].
    """
    given = fields_of(example)
    if not given["boxes"]:
        return None
    mask_name, real = _only(given, "box_mask")
    return mask_name, _only(given, "boxes")[1], real


def refuse(example: Any, kinds: Sequence[str], what: str) -> None:
    """Raises InputError if the example has fields of a kind that an augmentation cannot move."""
    names = [
        name
        for name, kind in annotations_of(example).items()
        if kind in kinds and getattr(example, name) is not None
    ]
    if names:
        raise InputError(
            f"{what} cannot move the {' and the '.join(names)} of a {type(example).__name__}: "
            "leave it out"
        )


def fields_of(example: Any, *, prefix: str = "", like: Any = None) -> dict[str, dict[str, Array]]:
    """Returns kind -> name of the field -> its array, after a check of shapes and dtypes.

    Fields that are None are left out, except those of the kind "placement".

    Args:
      example: a batch struct without its leading axis.
      prefix: prefix of the names in messages.
      like: another example, whose shapes the example must have.
    Raises:
      AssertionError: an array does not have the shape or dtype of its kind, or its shape does not
        fit the other fields or `like`.
      InputError: the struct has no image, or masks without frames.
    """
    given: dict[str, dict[str, Array]] = {kind: {} for kind in KINDS}
    sizes: dict[str, int] = {}
    for name, kind in annotations_of(example).items():
        x, other = getattr(example, name), getattr(like, name, None)
        if kind in SHAPES:
            if like is not None and (x is None) != (other is None):
                raise AssertionError(f"{prefix}{name}: give all examples {name}, or none")
            if x is None:
                continue
            axes, dtype = SHAPES[kind]
            shape = [sizes.get(axis, axis) for axis in axes] if like is None else other.shape
            x = check_array(f"{prefix}{name}", x, shape, dtype)
            if kind == "masks":  # squares
                x = check_array(f"{prefix}{name}", x, (*x.shape[:2], x.shape[1]), dtype)
            # Images may have different numbers of channels.
            sizes |= {axis: n for axis, n in zip(axes, x.shape, strict=True) if axis in _SHARED}
            if dtype == "float":
                x = at_least_float32(x)
        if x is not None or kind == "placement":
            given[kind][name] = x
    if len(given["masks"]) != len(given["mask_frames"]):
        raise InputError(
            f"a {type(example).__name__} has masks without frames, or frames without masks: give "
            "both or neither"
        )
    if not given["image"]:
        raise InputError(f"a {type(example).__name__} has no image to augment")
    return given


# Compiled as a whole, so that an eager call compiles once.
@functools.partial(jax.jit, static_argnums=(3, 4))
def clip_and_keep(
    boxes: Array, real: Array, window: Array, least_visible: float, least_side: float
) -> tuple[Array, Array]:
    """Clips boxes to a window and drops boxes by the rule of `clip_and_drop`.

    Args:
      boxes: f32[N, 4], xyxy, pixels.
      real: bool[N], False for padding.
      window: f32[4], xyxy, pixels.
      least_visible: see `clip_and_drop`.
      least_side: see `clip_and_drop`.
    Returns:
      f32[N, 4] and bool[N]: zeros and False for padding and for dropped boxes.
    """
    boxes = only_real(boxes, real)
    clipped = jnp.clip(boxes, jnp.tile(window[:2], 2)[None], jnp.tile(window[2:], 2)[None])
    before, left = box_area(boxes), box_area(clipped)
    sides = clipped[:, 2:] - clipped[:, :2]
    kept = real & (left > 0) & (left >= least_visible * before)
    kept &= (sides >= least_side).all(axis=1)
    return only_real(clipped, kept), kept


def only_real(rows: Array, real: Array) -> Array:
    """Returns rows [N, ...] with zeros, or False, where `real`, bool[N], is False."""
    real = real.reshape(-1, *(1,) * (rows.ndim - 1))
    return jnp.where(real, rows, jnp.zeros((), rows.dtype))


def _only(given: dict[str, dict[str, Array]], kind: str) -> tuple[str, Array]:
    """Returns the name and the array of the only field of a kind."""
    if len(given[kind]) != 1:
        raise InputError(
            f"a batch struct with boxes, masks or points has {len(given[kind])} fields of the kind "
            f"{kind!r}: give it one"
        )
    return next(iter(given[kind].items()))


def _moved_boxes(
    boxes: Array,
    real: Array,
    points: Callable[[Array], Array],
    size: Array,
    least_visible: float,
    least_side: float,
) -> tuple[Array, Array]:
    real &= box_area(boxes) > 0
    corners = only_real(boxes, real)[:, _CORNERS]
    moved = points(corners.reshape(-1, 2)).reshape(-1, 4, 2)
    around = jnp.concatenate([moved.min(axis=1), moved.max(axis=1)], axis=1)
    window = jnp.concatenate([jnp.zeros(2), size[::-1].astype(jnp.float32)])
    return clip_and_keep(around, real, window, least_visible, least_side)


def _exchanged(x: Array, move: Move, swap: Sequence[int]) -> Array:
    """Exchanges the points of x, [..., K], along the last axis if the image is mirrored."""
    if not swap:
        return x
    if len(swap) != x.shape[-1]:
        raise OptionError(
            "swap", f"swap has {len(swap)} numbers: give {x.shape[-1]}, one for each point"
        )
    return jnp.where(move.mirrored, x[..., jnp.array(swap)], x)


def _moved_masks(given: dict[str, dict[str, Array]], move: Move, size: Array) -> dict[str, Array]:
    """Returns the fields of masks and their frames after a move, by name."""
    if not given["masks"] and not given["mask_frames"]:
        return {}
    (name, masks), (frame_name, frames) = (_only(given, kind) for kind in ("masks", "mask_frames"))
    real = box_area(frames) > 0
    frames = only_real(frames, real)
    corners = move.points(frames[:, _CORNERS].reshape(-1, 2)).reshape(-1, 4, 2)
    moved = jnp.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    masks = _resampled(masks, corners, moved) if move.cells is None else move.cells(masks)
    moved = only_real(moved, real)
    window = jnp.concatenate([jnp.zeros(2), size[::-1].astype(jnp.float32)])
    return {name: clip_masks(masks, moved, window), frame_name: moved}


def _resampled(masks: Array, corners: Array, frames: Array) -> Array:
    """Samples masks at the cells of other frames.

    Args:
      masks: int[N, M, M].
      corners: f32[N, 4, 2], the moved corners of the former frames: the first, that at its right,
        that below it, and the opposite one.
      frames: f32[N, 4], the new frames.
    Returns:
      int[N, M, M] of the same dtype, bilinear, rounded.
    """
    count = masks.shape[1]
    steps = (jnp.arange(count) + 0.5) / count

    def one(mask: Array, corners: Array, frame: Array) -> Array:
        origin, side = frame[:2], frame[2:] - frame[:2]
        x, y = (origin[axis] + side[axis] * steps - corners[0, axis] for axis in (0, 1))
        (a, c), (b, d) = corners[1] - corners[0], corners[2] - corners[0]
        # The inverse of the map from the former frame, as the unit square, to its moved corners.
        determinant = a * d - b * c
        determinant = jnp.where(determinant == 0, 1, determinant)  # an empty mask
        x, y = x[None, :], y[:, None]
        places = jnp.stack([d * x - b * y, a * y - c * x], axis=-1) * count / determinant
        return jnp.round(warp(mask[:, :, None], places, fill=0)[:, :, 0]).astype(mask.dtype)

    return jax.vmap(one)(masks, corners, frames)


def _moved_points(
    points: Array, visible: Array, move: Move, size: Array, swap: Sequence[int]
) -> tuple[Array, Array]:
    """Returns moved points [..., K, 2] and visible [..., K]: zeros and False outside the image."""
    moved = move.points(points.reshape(-1, 2))
    inside = ((moved >= 0) & (moved <= size[None, ::-1].astype(moved.dtype))).all(axis=1)
    visible = _exchanged(visible & inside.reshape(visible.shape), move, swap)
    x, y = (_exchanged(axis.reshape(visible.shape), move, swap) for axis in moved.T)
    return jnp.where(visible[..., None], jnp.stack([x, y], axis=-1), 0), visible


def _moved_extent(extent: Array, points: Callable[[Array], Array] | None, size: Array) -> Array:
    """Returns the new extent, i32[2], which contains all visible parts of the former extent."""
    if points is None:
        return size
    height, width = extent.astype(jnp.float32)
    zero = jnp.zeros_like(height)
    corners = jnp.array([[zero, zero], [width, zero], [zero, height], [width, height]])
    # A small number is subtracted, so that rounding errors do not add a pixel.
    last = jnp.ceil(points(corners).max(axis=0)[::-1] - 1e-3).astype(jnp.int32)
    return jnp.clip(last, 0, size)
