"""Anchors: the reference boxes of a detector on a grid, and the choice of their shapes from data.

A shape is (width, height). Anchors are [N, 4], xyxy in pixels of the network input, ordered by
map, row, column and shape. Anchors that depend only on options are constants of the traced program.
"""

import functools
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxvision.core import at_least_float32, check_array, check_choice, check_range
from jaxvision.ops.boxes import box_iou, clip_boxes_to_image
from jaxvision.ops.static import check_positive

SSD300 = {
    "feature_sizes": ((38, 38), (19, 19), (10, 10), (5, 5), (3, 3), (1, 1)),
    "image_size": (300, 300),
    "sizes": (30, 60, 111, 162, 213, 264, 315),
    "aspect_ratios": ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)),
    "strides": (8, 16, 32, 64, 100, 300),
}
"""`ssd_default_boxes(**SSD300)` returns the 8,732 boxes of the published network for Pascal VOC.

The sizes are those of the authors' program: 0.1 of the image for the first map, and 0.2 to 0.88 in
steps of 0.17 for the others. Equation 4 of the paper has steps of 0.175 up to 0.9 instead.
"""

SSD512 = {
    "feature_sizes": ((64, 64), (32, 32), (16, 16), (8, 8), (4, 4), (2, 2), (1, 1)),
    "image_size": (512, 512),
    "sizes": (35.84, 76.8, 153.6, 230.4, 307.2, 384.0, 460.8, 537.6),
    "aspect_ratios": ((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2,), (2,)),
    "strides": (8, 16, 32, 64, 128, 256, 512),
}
"""`ssd_default_boxes(**SSD512)` returns the 24,564 boxes of the published network for Pascal VOC.

The sizes are 0.07 of the image for the first map, and 0.15 to 0.9 in steps of 0.15 for the others.
"""

SSD300_TORCHVISION = {
    **SSD300,
    "sizes": (21, 45, 99, 153, 207, 261, 315),
    "limit_sides": True,
}
"""`ssd_default_boxes(**SSD300_TORCHVISION)` returns those of torchvision's `ssd300_vgg16`.

The sizes are 0.07 of the image for the first map, and 0.15 to 1.05 in steps of 0.18 for the others.
"""

SSDLITE320 = {
    "feature_sizes": ((20, 20), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)),
    "image_size": (320, 320),
    "sizes": (64, 112, 160, 208, 256, 304, 320),
    "aspect_ratios": ((2, 3),) * 6,
    "limit_sides": True,
}
"""`ssd_default_boxes(**SSDLITE320)` returns those of torchvision's `ssdlite320_mobilenet_v3_large`.

The sizes are 0.2 to 0.95 of the image in steps of 0.15, and then 1.
"""

DISTANCES = ("iou", "sse")
"""Distances for `kmeans_anchors`: 1 - IoU, or the squared difference of the sides."""

_Pair = tuple[int, int]


def anchor_shapes(scales: Sequence[float], aspect_ratios: Sequence[float]) -> Array:
    """Returns a shape of area scale^2 for each aspect ratio and scale.

    Args:
      scales: square roots of the areas, pixels.
      aspect_ratios: ratios height / width.
    Returns:
      f32[A, 2], (width, height): all scales of the first ratio, then all scales of the next one.
    Raises:
      ValueError: a number is not positive.
    Source: Ren et al. 2015 ("Faster R-CNN"), section 3.1.1; the order is torchvision's.
    """
    return jnp.asarray(_shapes(scales, aspect_ratios))


def map_strides(image_size: _Pair, feature_sizes: Sequence[_Pair]) -> tuple[_Pair, ...]:
    """Returns the stride of each map as torchvision computes it: floor(side / positions) per axis.

    The maps of an image of 800 pixels have 100, 50, 25, 13 and 7 rows, and so the strides 8, 16,
    32, 61 and 114.

    Args:
      image_size: (height, width) of the network's input with its padding, pixels.
      feature_sizes: (rows, columns) of each map.
    Returns:
      (vertical, horizontal) for each map, pixels; see `grid_anchors`.
    Raises:
      ValueError: a size is not positive, or a map has more positions than the image has pixels.
    """
    check_positive("image_size", image_size, 2)
    strides = []
    for feature_size in feature_sizes:
        check_positive("feature_sizes", feature_size, 2)
        stride = tuple(side // count for side, count in zip(image_size, feature_size, strict=True))
        if not min(stride):
            raise ValueError(
                f"feature_sizes has {tuple(feature_size)}, more positions than the pixels of "
                f"image_size, {tuple(image_size)}: give the size of the network's input"
            )
        strides.append(stride)
    return tuple(strides)


def fcos_points(
    feature_sizes: Sequence[_Pair],
    *,
    strides: Sequence[float | tuple[float, float]] = (8, 16, 32, 64, 128),
    offset: float = 0.0,
) -> Array:
    """Returns the points of FCOS: one at each position of each map.

    Args:
      feature_sizes: (rows, columns) of each map.
      strides: stride of each map, see `grid_anchors` and `map_strides`.
      offset: position of a point in its cell: 0 is the top left corner, as in torchvision; 0.5 is
        the middle, as in the paper.
    Returns:
      f32[N, 2], (x, y), pixels; ordered by map, row and column.
    Raises:
      ValueError: the number of strides is not the number of maps, or a number is not positive.
    Source: Tian et al. 2019 ("FCOS"), section 3.1.
    """
    _check_maps(feature_sizes, strides=strides)
    point = [np.zeros((1, 2))] * len(feature_sizes)
    return _on_maps(point, feature_sizes, strides, offset=offset)[:, :2]


def grid_anchors(
    shapes: Array,
    *,
    feature_size: _Pair,
    stride: float | tuple[float, float],
    offset: float = 0.0,
) -> Array:
    """Places an anchor of each shape at each position of a feature map.

    Args:
      shapes: f32[A, 2], (width, height), pixels.
      feature_size: (rows H, columns W) of the map.
      stride: distance between two positions, pixels: one number or (vertical, horizontal).
      offset: position of an anchor's centre in its cell: 0 is the top left corner, as in
        torchvision's RPN and RetinaNet; 0.5 is the middle, as in SSD.
    Returns:
      f32[H * W * A, 4], xyxy, pixels; ordered by row, column and shape.
    Raises:
      ValueError: a size or a stride is not positive.
    """
    shapes = at_least_float32(check_array("shapes", shapes, ("A", 2)))
    check_positive("feature_size", feature_size, 2)
    strides = stride if isinstance(stride, Sequence) else (stride, stride)
    check_positive("stride", strides, 2)
    y, x = (
        (jnp.arange(count, dtype=shapes.dtype) + offset) * step
        for count, step in zip(feature_size, strides, strict=True)
    )
    centres = jnp.stack(jnp.meshgrid(x, y), axis=-1)[:, :, None]
    half = shapes[None, None] / 2
    return jnp.concatenate([centres - half, centres + half], axis=-1).reshape(-1, 4)


def rpn_anchors(
    feature_sizes: Sequence[_Pair],
    *,
    strides: Sequence[float | tuple[float, float]] = (4, 8, 16, 32, 64),
    scales: Sequence[Sequence[float]] = ((32,), (64,), (128,), (256,), (512,)),
    aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
    rounded: bool = False,
) -> Array:
    """Returns the anchors of a region proposal network, on one map or on the maps of a pyramid.

    The defaults are for a feature pyramid (P2 to P6). For Faster R-CNN on one map use
    `strides=(16,), scales=((128, 256, 512),)`.

    Args:
      feature_sizes: (rows, columns) of each map.
      strides: stride of each map, see `grid_anchors`.
      scales: scales of each map, see `anchor_shapes`.
      aspect_ratios: ratios height / width.
      rounded: whether to round the corners, relative to a position, to whole pixels, as torchvision
        does.
    Returns:
      f32[N, 4], xyxy, pixels; ordered by map, row, column, aspect ratio and scale.
    Raises:
      ValueError: the number of strides or scales is not the number of maps, or a number is not
        positive.
    Source: Ren et al. 2015 ("Faster R-CNN"), section 3.1.1; Lin et al. 2017 ("Feature pyramid
      networks"), section 4.1.
    """
    _check_maps(feature_sizes, strides=strides, scales=scales)
    shapes = [_shapes(map_scales, aspect_ratios) for map_scales in scales]
    if rounded:
        shapes = [2 * np.round(x / 2) for x in shapes]
    return _on_maps(shapes, feature_sizes, strides, offset=0.0)


def retinanet_anchors(
    feature_sizes: Sequence[_Pair],
    *,
    strides: Sequence[float | tuple[float, float]] = (8, 16, 32, 64, 128),
    sizes: Sequence[float] = (32, 64, 128, 256, 512),
    aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
    scales_per_octave: int = 3,
    rounded: bool = False,
) -> Array:
    """Returns the anchors of RetinaNet: three scales and three aspect ratios on each map.

    Args:
      feature_sizes: (rows, columns) of each map, P3 to P7.
      strides: stride of each map, see `grid_anchors`.
      sizes: first scale of each map.
      aspect_ratios: ratios height / width.
      scales_per_octave: n, scales of each map: 2^(0/n), 2^(1/n), ... times its first.
      rounded: whether to round the scales down to whole pixels and to round the corners, as
        torchvision does.
    Returns:
      f32[N, 4], xyxy, pixels; ordered by map, row, column, aspect ratio and scale.
    Raises:
      ValueError: the number of strides or sizes is not the number of maps, or a number is not
        positive.
    Source: Lin et al. 2017 ("Focal loss"), section 4.
    """
    _check_maps(feature_sizes, strides=strides, sizes=sizes)
    check_range("scales_per_octave", scales_per_octave, least=1)
    factors = [2 ** (i / scales_per_octave) for i in range(scales_per_octave)]
    scales = [[size * factor for factor in factors] for size in sizes]
    if rounded:
        scales = [[int(scale) for scale in octave] for octave in scales]
    return rpn_anchors(
        feature_sizes,
        strides=strides,
        scales=scales,
        aspect_ratios=aspect_ratios,
        rounded=rounded,
    )


def ssd_scales(num_maps: int, *, smallest: float = 0.2, largest: float = 0.9) -> tuple[float, ...]:
    """Returns the scales of SSD's default boxes on m maps, relative to the image.

    s_k = s_min + (s_max - s_min) (k - 1) / (m - 1), for k from 1 to m + 1.

    Args:
      num_maps: m, at least 2.
      smallest: s_min.
      largest: s_max = s_m.
    Returns:
      m + 1 scales; the last one is only for the extra box of the last map. Multiply them by the
      side of the image to get the sizes for `ssd_default_boxes`.
    Raises:
      ValueError: num_maps is less than 2.
    Source: Liu et al. 2016 ("SSD"), equation 4.
    """
    check_range("num_maps", num_maps, least=2)
    step = (largest - smallest) / (num_maps - 1)
    return tuple(smallest + step * k for k in range(num_maps + 1))


def ssd_default_boxes(
    feature_sizes: Sequence[_Pair],
    *,
    image_size: tuple[float, float],
    sizes: Sequence[float],
    aspect_ratios: Sequence[Sequence[float]],
    strides: Sequence[float | tuple[float, float]] | None = None,
    clip: bool = False,
    limit_sides: bool = False,
) -> Array:
    """Returns SSD's default boxes.

    `SSD300` and `SSD512` are the arguments of the published networks, `SSD300_TORCHVISION` and
    `SSDLITE320` those of torchvision's. The boxes around the middle of each cell of map k are
    squares of side s_k and sqrt(s_k s_(k+1)), then for each ratio a the shapes
    s_k (sqrt(a), 1 / sqrt(a)) and s_k (1 / sqrt(a), sqrt(a)).

    Args:
      feature_sizes: (rows, columns) of each map.
      image_size: (height, width), pixels.
      sizes: s_k of each map and one more, pixels, see `ssd_scales`.
      aspect_ratios: for each map, the ratios besides 1.
      strides: stride of each map, see `grid_anchors`; None: each map covers the image evenly.
      clip: whether to clip the boxes to the image, as Caffe's option does.
      limit_sides: whether to limit width and height to those of the image, as torchvision does;
        the boxes still reach beyond the image.
    Returns:
      f32[N, 4], xyxy, pixels; ordered by map, row, column and shape, as in torchvision.
    Raises:
      ValueError: the number of sizes, ratios or strides does not fit the number of maps, or a
        number is not positive.
    Source: Liu et al. 2016 ("SSD"), section 2.2.
    """
    check_positive("image_size", image_size, 2)
    if strides is None:
        strides = [
            tuple(side / count for side, count in zip(image_size, feature_size, strict=True))
            for feature_size in feature_sizes
        ]
    _check_maps(feature_sizes, strides=strides, aspect_ratios=aspect_ratios)
    check_positive("sizes", sizes, len(feature_sizes) + 1)
    shapes = []
    for (size, larger), ratios in zip(itertools.pairwise(sizes), aspect_ratios, strict=True):
        squares = _shapes([size, (size * larger) ** 0.5], [1])
        both_ways = [r for ratio in ratios for r in (1 / ratio, ratio)]
        of_map = np.concatenate([squares, _shapes([size], both_ways)])
        shapes.append(np.minimum(of_map, image_size[::-1]) if limit_sides else of_map)
    boxes = _on_maps(shapes, feature_sizes, strides, offset=0.5)
    return clip_boxes_to_image(boxes, image_size) if clip else boxes


def shape_iou(shapes1: Array, shapes2: Array) -> Array:
    """Computes the intersection over union of each pair of shapes, placed at the same centre.

    Args:
      shapes1: f32[N, 2], (width, height).
      shapes2: f32[M, 2], (width, height).
    Returns:
      f32[N, M], in [0, 1]; 0 where a shape has no area.
    """
    # The IoU of two shapes is the same at a common corner and at a common centre.
    return box_iou(
        *(
            jnp.pad(check_array(name, x, ("N", 2)), ((0, 0), (2, 0)))
            for name, x in (("shapes1", shapes1), ("shapes2", shapes2))
        )
    )


def average_iou(shapes: Array, anchors: Array, mask: Array | None = None) -> Array:
    """Computes the mean over the shapes of the IoU of each shape with its best anchor.

    Args:
      shapes: f32[N, 2], (width, height).
      anchors: f32[A, 2], (width, height).
      mask: bool[N], False for padding.
    Returns:
      f32[], in [0, 1], the mean over the shapes with an area; 0 if there is none.
    Source: Redmon and Farhadi 2017 ("YOLO9000"), table 1.
    """
    shapes, valid = _valid_shapes(shapes, mask)
    anchors = check_array("anchors", anchors, ("A", 2))
    best = shape_iou(shapes, anchors).max(axis=1, initial=0)
    return jnp.where(valid, best, 0).sum() / jnp.maximum(valid.sum(), 1)


def kmeans_anchors(
    key: Array,
    shapes: Array,
    mask: Array | None = None,
    *,
    k: int,
    distance: str = "iou",
    iterations: int = 300,
) -> Array:
    """Computes anchors from data by k-means: the means of k clusters of shapes.

    Lloyd's algorithm runs until no shape changes its cluster. It starts from k shapes, drawn one
    after the other with a probability proportional to the distance to the nearest shape drawn
    before (k-means++). A cluster that loses all its shapes keeps its mean. For several restarts,
    map the function over several keys with `jax.vmap` and choose the best result by `average_iou`.

    Args:
      key: key[], for the initial shapes.
      shapes: f32[N, 2], (width, height), pixels of the network input. Shapes without area are
        ignored.
      mask: bool[N], False for padding.
      k: number of anchors.
      distance: "iou", 1 - `shape_iou`, which treats small and large boxes alike, or "sse", the
        squared difference of the sides.
      iterations: largest number of iterations.
    Returns:
      f32[k, 2], (width, height), sorted by area; all 0 if no shape has an area. If there are fewer
      than k different shapes, some are repeated.
    Raises:
      ValueError: distance is unknown, or a number is not positive.
    Source: Redmon and Farhadi 2017 ("YOLO9000"), section 2, "Dimension clusters"; Arthur and
      Vassilvitskii 2007 ("k-means++").
    """
    check_choice("distance", distance, DISTANCES)
    check_range("k", k, least=1)
    check_range("iterations", iterations, least=1)
    shapes, valid = _valid_shapes(shapes, mask)
    if not len(shapes):
        return jnp.zeros((k, 2), shapes.dtype)
    return _kmeans(key, shapes, valid, k=k, distance=distance, iterations=iterations)


# Compiled as a whole, so that an eager call compiles once.
@functools.partial(jax.jit, static_argnames=("k", "distance", "iterations"))
def _kmeans(
    key: Array, shapes: Array, valid: Array, *, k: int, distance: str, iterations: int
) -> Array:
    def distances(centres: Array) -> Array:
        if distance == "iou":
            return 1 - shape_iou(shapes, centres)
        return ((shapes[:, None] - centres[None]) ** 2).sum(axis=-1)

    def draw(key: Array, weight: Array) -> Array:
        # If all distances are 0, any valid shape is drawn.
        weight = jnp.where(jnp.any(weight > 0), weight, valid)
        return shapes[jax.random.categorical(key, jnp.log(weight))]

    def add(i: Array, centres: Array) -> Array:
        nearest = jnp.where(valid, distances(centres).min(axis=1), 0)
        return centres.at[i].set(draw(keys[i], nearest))

    def move(state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        step, centres, cluster, _ = state
        members = valid[:, None] & (cluster[:, None] == jnp.arange(k)[None])
        count = members.sum(axis=0)[:, None]
        total = jnp.where(members[..., None], shapes[:, None], 0).sum(axis=0)
        centres = jnp.where(count > 0, total / jnp.maximum(count, 1), centres)
        moved = distances(centres).argmin(axis=1)
        return step + 1, centres, moved, jnp.any(valid & (moved != cluster))

    keys = jax.random.split(key, k)
    first = draw(keys[0], valid.astype(shapes.dtype))
    centres = lax.fori_loop(1, k, add, jnp.broadcast_to(first, (k, 2)))
    centres = lax.while_loop(
        lambda state: state[3] & (state[0] < iterations),
        move,
        (0, centres, distances(centres).argmin(axis=1), jnp.any(valid)),
    )[1]
    return centres[jnp.argsort(centres.prod(axis=1), stable=True)]


def _shapes(scales: Sequence[float], aspect_ratios: Sequence[float]) -> np.ndarray:
    check_positive("scales", scales)
    check_positive("aspect_ratios", aspect_ratios)
    root = np.sqrt(np.asarray(aspect_ratios, float))[:, None]
    scale = np.asarray(scales, float)[None]
    return np.stack([scale / root, scale * root], axis=-1).reshape(-1, 2)


def _on_maps(
    shapes: Sequence[np.ndarray],
    feature_sizes: Sequence[_Pair],
    strides: Sequence[float | tuple[float, float]],
    *,
    offset: float,
) -> Array:
    maps = [
        grid_anchors(jnp.asarray(x), feature_size=feature_size, stride=stride, offset=offset)
        for x, feature_size, stride in zip(shapes, feature_sizes, strides, strict=True)
    ]
    return jnp.concatenate(maps)


def _valid_shapes(shapes: Array, mask: Array | None) -> tuple[Array, Array]:
    """Returns the shapes, with 0 for those that are not valid, and a mask of the valid ones."""
    shapes = at_least_float32(check_array("shapes", shapes, ("N", 2)))
    valid = (shapes > 0).all(axis=1)
    if mask is not None:
        valid &= check_array("mask", mask, (len(shapes),), "bool")
    return jnp.where(valid[:, None], shapes, 0), valid


def _check_maps(feature_sizes: Sequence[_Pair], **options: Sequence) -> None:
    if not feature_sizes:
        raise ValueError("feature_sizes is empty: give the size of at least one map")
    for name, values in options.items():
        if len(values) != len(feature_sizes):
            raise ValueError(
                f"{name} has {len(values)} entries for {len(feature_sizes)} maps: give one for each"
            )
