"""Matching: functions that assign ground truth to anchors, cells and predictors, and sample them.

Ground truth is padded; rows that a mask marks as padding have no effect. Results are integers and
masks, and no gradient flows through them.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxvision.core import at_least_float32, check_array, check_choice, check_range
from jaxvision.ops.anchors import shape_iou
from jaxvision.ops.box_coding import encode_distances
from jaxvision.ops.boxes import box_area, box_convert, box_iou, elementwise_box_iou
from jaxvision.ops.static import check_positive, pair

NEGATIVE = -1
"""The match of an anchor that is background."""

IGNORE = -2
"""The match of an anchor that is neither background nor object: the loss ignores it."""

FORCED = ("none", "ties", "all_ties", "bipartite", "best")
"""Rules that match ground truth with anchors below the thresholds, see `match_anchors`."""

FORCED_BY_TIES = ("none", "ties", "all_ties")
"""Those of `match_boxes`."""


def match_anchors(
    iou: Array,
    gt_mask: Array,
    *,
    high_threshold: float,
    low_threshold: float,
    forced: str = "none",
) -> Array:
    """Returns the ground truth that each anchor is trained to predict.

    An anchor is matched with the ground truth of the highest IoU (the first one of equals), if this
    IoU is at least the high threshold. It is `NEGATIVE` below the low threshold and `IGNORE` in
    between. With `forced`, a ground truth can also be matched below the thresholds:

    - "ties", as in an RPN: every anchor that has the highest IoU with some ground truth, including
      ties, is matched as if there were no thresholds. As in torchvision, its match may be another
      ground truth, with which its own IoU is higher. A ground truth that overlaps no anchor is left
      out.
    - "all_ties", as in torchvision's RPN and RetinaNet: likewise, but a ground truth that overlaps
      no anchor has the highest IoU, 0, with all of them, so that all are matched.
    - "bipartite", as in SSD's paper and the authors' program: each ground truth that overlaps an
      anchor is matched with one of its own. The pair with the highest IoU is matched first, then
      the highest of the remaining pairs, and so on. Among equal pairs the first ground truth and
      its first anchor are taken.
    - "best", as in torchvision's SSD: each ground truth is matched with the first anchor that has
      the highest IoU with it, even if that is 0. If several have the same anchor, the last of them
      is matched, so that the others may have none.

    Args:
      iou: f32[N, G], IoU of each anchor with each ground truth, as from `box_iou`.
      gt_mask: bool[G], False for padding.
      high_threshold: 0.7 in an RPN, 0.5 in RetinaNet, Fast R-CNN and SSD.
      low_threshold: 0.3 in an RPN, 0.4 in RetinaNet, 0.5 in Fast R-CNN and SSD.
      forced: one of `FORCED`.
    Returns:
      i32[N]: an index of ground truth, `NEGATIVE` or `IGNORE`.
    Raises:
      ValueError: forced is unknown, or 0 <= low_threshold <= high_threshold <= 1 does not hold.
    Source: Ren et al. 2015 ("Faster R-CNN"), section 3.1.2; Liu et al. 2016 ("SSD"), section 2.2,
      "Matching strategy".
    """
    check_choice("forced", forced, FORCED)
    _check_thresholds(low_threshold, high_threshold)
    iou = at_least_float32(check_array("iou", iou, ("N", "G")))
    gt_mask = check_array("gt_mask", gt_mask, (iou.shape[1],), "bool")
    if not iou.size:
        return jnp.full(len(iou), NEGATIVE, jnp.int32)
    # Padding is below every threshold, even one of 0.
    iou = lax.stop_gradient(jnp.where(gt_mask[None], iou, -1))
    best = iou.max(axis=1)
    nearest = iou.argmax(axis=1).astype(jnp.int32)
    matches = _between_thresholds(best, nearest, low_threshold, high_threshold)
    if forced == "ties":
        highest = iou.max(axis=0, keepdims=True)
        return jnp.where(((iou == highest) & (highest > 0)).any(axis=1), nearest, matches)
    if forced == "all_ties":
        highest = jnp.where(gt_mask[None], iou.max(axis=0, keepdims=True), jnp.inf)
        return jnp.where((iou == highest).any(axis=1), nearest, matches)
    if forced == "best":
        anchor = jnp.where(gt_mask, iou.argmax(axis=0), len(matches))
        last = (
            jnp.full_like(matches, NEGATIVE)
            .at[anchor]
            .max(jnp.arange(len(anchor), dtype=jnp.int32), mode="drop")
        )
        return jnp.where(last >= 0, last, matches)
    if forced == "bipartite":
        anchor, found = _bipartite(iou)
        beyond = len(matches)  # an index that is dropped
        index = jnp.arange(len(anchor), dtype=jnp.int32)
        return matches.at[jnp.where(found, anchor, beyond)].set(index, mode="drop")
    return matches


# Number of objects that are compared with all anchors at once by `match_boxes`.
_OBJECTS = 8


def match_boxes(
    anchors: Array,
    boxes: Array,
    gt_mask: Array,
    *,
    high_threshold: float,
    low_threshold: float,
    forced: str = "none",
) -> Array:
    """Computes `match_anchors` of the IoU of anchors with boxes, without the matrix of all IoUs.

    An image of 800 x 1,333 pixels has a quarter of a million anchors, which with room for 100
    objects is a matrix of 107 MB. Here a few objects are compared with all anchors at a time.

    Args:
      anchors: f32[N, 4], xyxy.
      boxes: f32[G, 4], xyxy, of the ground truth.
      gt_mask: bool[G], False for padding.
      high_threshold: see `match_anchors`.
      low_threshold: see `match_anchors`.
      forced: "none", "ties" or "all_ties", see `match_anchors`.
    Returns:
      i32[N]: an index of ground truth, `NEGATIVE` or `IGNORE`.
    Raises:
      ValueError: as for `match_anchors`.
    Source: as for `match_anchors`.
    """
    check_choice("forced", forced, FORCED_BY_TIES)
    _check_thresholds(low_threshold, high_threshold)
    anchors = at_least_float32(check_array("anchors", anchors, ("N", 4)))
    boxes = at_least_float32(check_array("boxes", boxes, ("G", 4)))
    gt_mask = check_array("gt_mask", gt_mask, boxes.shape[:1], "bool")
    if not len(anchors) or not len(boxes):
        return jnp.full(len(anchors), NEGATIVE, jnp.int32)
    return _match_boxes(
        *lax.stop_gradient((anchors, boxes, gt_mask)),
        thresholds=(low_threshold, high_threshold),
        forced=forced,
    )


# Compiled as a whole, so that an eager call compiles once.
@partial(jax.jit, static_argnames=("thresholds", "forced"))
def _match_boxes(
    anchors: Array, boxes: Array, gt_mask: Array, *, thresholds: tuple[float, float], forced: str
) -> Array:
    rest = -len(boxes) % _OBJECTS
    boxes = jnp.pad(boxes, ((0, rest), (0, 0))).reshape(-1, _OBJECTS, 4)
    masks = jnp.pad(gt_mask, (0, rest)).reshape(-1, _OBJECTS)

    def compare(
        carry: tuple[Array, Array, Array], some: tuple[Array, Array, Array]
    ) -> tuple[tuple[Array, Array, Array], None]:
        best, nearest, tied = carry
        first, boxes, mask = some
        iou = jnp.where(mask[None], box_iou(anchors, boxes), -1)
        better = iou.max(axis=1) > best  # of equal ones the first stays
        nearest = jnp.where(better, first + iou.argmax(axis=1).astype(jnp.int32), nearest)
        highest = iou.max(axis=0)
        counts = mask & ((highest > 0) | (forced == "all_ties"))
        tied |= ((iou == highest[None]) & counts[None]).any(axis=1)
        return (jnp.maximum(best, iou.max(axis=1)), nearest, tied), None

    count = len(anchors)
    # Padding is below every threshold, even one of 0.
    start = (
        jnp.full(count, -1, anchors.dtype),
        jnp.zeros(count, jnp.int32),
        jnp.zeros(count, bool),
    )
    firsts = jnp.arange(0, boxes.shape[0] * _OBJECTS, _OBJECTS, dtype=jnp.int32)
    (best, nearest, tied), _ = lax.scan(compare, start, (firsts, boxes, masks))
    matches = _between_thresholds(best, nearest, *thresholds)
    return matches if forced == "none" else jnp.where(tied, nearest, matches)


def _check_thresholds(low: float, high: float) -> None:
    check_range("low_threshold", low, least=0, most=high)
    check_range("high_threshold", high, most=1)


def _between_thresholds(best: Array, nearest: Array, low: float, high: float) -> Array:
    """The matches by the thresholds alone, from the highest IoU of each anchor and whose it is."""
    matches = jnp.where(best < high, IGNORE, nearest)
    return jnp.where(best < low, NEGATIVE, matches)


@jax.jit
def _bipartite(iou: Array) -> tuple[Array, Array]:
    """Returns the anchor of each ground truth, i32[G], and whether it has one, bool[G].

    In each round every ground truth chooses its best anchor. If several choose the same anchor,
    only the one with the highest IoU keeps it; the others exclude this anchor and choose again.
    Because both sides rank the pairs by the same IoU, the result equals that of taking the highest
    pair first, but it takes a few rounds instead of one for each ground truth.
    """
    index = jnp.arange(iou.shape[1])

    def ask(iou: Array) -> tuple[Array, Array, Array, Array]:
        anchor, value = iou.argmax(axis=0), iou.max(axis=0)
        ahead = (value[None] > value[:, None]) | (
            (value[None] == value[:, None]) & (index[None] < index[:, None])
        )
        refused = (value > 0) & (ahead & (anchor[None] == anchor[:, None])).any(axis=1)
        return iou, anchor, value, refused

    def give_up(state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        iou, anchor, value, refused = state
        return ask(iou.at[anchor, index].set(jnp.where(refused, 0, value)))

    _, anchor, value, _ = lax.while_loop(lambda state: state[3].any(), give_up, ask(iou))
    return anchor, value > 0


def match_points(
    points: Array,
    sides: Array,
    boxes: Array,
    gt_mask: Array,
    *,
    radius: float = 1.5,
    range_factors: tuple[float, float] = (4.0, 8.0),
) -> Array:
    """Returns the ground truth that each point of FCOS is trained to predict.

    A point with side s belongs to a box if

    - it lies in it: all four distances to the sides of the box are more than 0,
    - it is near its centre: |dx| and |dy| are less than radius s, and
    - the largest of the four distances is between the two factors times s. On the finest map, whose
      s is the smallest, there is no lower limit, and on the coarsest no upper one.

    Of several boxes the smallest is taken (the first one of equals).

    Args:
      points: f32[N, 2], (x, y), pixels, as from `fcos_points`.
      sides: f32[N]: the nominal stride of each point's map, pixels.
      boxes: f32[G, 4], xyxy, pixels.
      gt_mask: bool[G], False for padding.
      radius: of the sampling around the centres, in sides.
      range_factors: lower and upper limit of the largest distance, in sides.
    Returns:
      i32[N]: an index of ground truth or `NEGATIVE`.
    Raises:
      ValueError: radius or a factor is not positive.
    Source: Tian et al. 2019 ("FCOS"), section 3.2, with the sampling around centres of its later
      version; the limits are torchvision's.
    """
    check_range("radius", radius, more_than=0)
    check_positive("range_factors", range_factors, 2)
    points = at_least_float32(check_array("points", points, ("N", 2)))
    sides = at_least_float32(check_array("sides", sides, points.shape[:1]))
    boxes = at_least_float32(check_array("boxes", boxes, ("G", 4)))
    gt_mask = check_array("gt_mask", gt_mask, boxes.shape[:1], "bool")
    if not (len(points) and len(boxes)):
        return jnp.full(len(points), NEGATIVE, jnp.int32)
    points, sides, boxes = lax.stop_gradient((points[:, None], sides[:, None], boxes[None]))

    pairs = len(points), boxes.shape[1]
    distances = encode_distances(
        jnp.broadcast_to(boxes, (*pairs, 4)), jnp.broadcast_to(points, (*pairs, 2))
    )
    centres = box_convert(boxes, "xyxy", "cxcywh")[..., :2]
    furthest = distances.max(axis=-1)
    least, most = (factor * sides for factor in range_factors)
    belongs = (
        gt_mask[None]
        & (distances > 0).all(axis=-1)
        & (jnp.abs(points - centres) < radius * sides[..., None]).all(axis=-1)
        & ((furthest > least) | (sides == sides.min()))
        & ((furthest < most) | (sides == sides.max()))
    )
    area = jnp.where(belongs, box_area(boxes), jnp.inf)
    return jnp.where(belongs.any(axis=1), area.argmin(axis=1), NEGATIVE).astype(jnp.int32)


def yolov1_responsible(predicted: Array, boxes: Array) -> Array:
    """Returns the predictor of a cell that is responsible for its object, in YOLOv1.

    It is the predictor whose box has the highest IoU with the object's box. If none overlaps it, it
    is the predictor whose centre and size differ least (root mean square). Of equals the first one
    is taken.

    Args:
      predicted: f32[..., B, 4], xyxy, the boxes that an object's cell predicts.
      boxes: f32[..., 4], xyxy, the objects' boxes.
    Returns:
      i32[...], in 0..B - 1.
    Source: Redmon et al. 2016 ("You only look once"), section 2.2; the fallback is Darknet's.
    """
    predicted = at_least_float32(check_array("predicted", predicted, ("...", "B", 4)))
    boxes = at_least_float32(check_array("boxes", boxes, (*predicted.shape[:-2], 4)))
    predicted = lax.stop_gradient(predicted)
    boxes = jnp.broadcast_to(boxes[..., None, :], predicted.shape)
    iou = elementwise_box_iou(predicted, boxes)
    difference = box_convert(predicted - boxes, "xyxy", "cxcywh")
    apart = (difference**2).sum(axis=-1)
    overlaps = (iou > 0).any(axis=-1, keepdims=True)
    return jnp.where(overlaps, iou, -apart).argmax(axis=-1).astype(jnp.int32)


def best_anchor(shapes: Array, anchors: Array) -> tuple[Array, Array]:
    """Returns the anchor that is responsible for each object, in YOLOv2 and YOLOv3.

    Args:
      shapes: f32[G, 2], (width, height) of the objects' boxes.
      anchors: f32[A, 2], (width, height).
    Returns:
      (index i32[G], iou f32[G]): the anchor with the highest `shape_iou` (the first one of equals)
      and this IoU; (0, 0) for a shape without area.
    Source: Redmon and Farhadi 2018 ("YOLOv3"), section 2.1.
    """
    shapes = check_array("shapes", shapes, ("G", 2))
    anchors = check_array("anchors", anchors, ("A", 2))
    iou = lax.stop_gradient(shape_iou(shapes, anchors))
    return iou.argmax(axis=1).astype(jnp.int32), iou.max(axis=1)


def assign_to_grid(
    rows: Array,
    columns: Array,
    anchors: Array,
    gt_mask: Array,
    *,
    grid_size: tuple[int, int],
    num_anchors: int,
) -> Array:
    """Returns the ground truth that each cell and anchor of a grid is responsible for.

    If several objects have the same cell and anchor, the last one is taken, as in Darknet. Objects
    with a cell or an anchor out of range are left out. For a network with nine anchors on three
    maps, subtract 0, 3 or 6 from the indices of the anchors, so that the three anchors of a map are
    0, 1 and 2.

    Args:
      rows: i32[G], as from `cell_index`.
      columns: i32[G].
      anchors: i32[G], as from `best_anchor`; all 0 for YOLOv1, in which a cell has one object.
      gt_mask: bool[G], False for padding.
      grid_size: (rows H, columns W).
      num_anchors: A.
    Returns:
      i32[H, W, A]: an index of ground truth or `NEGATIVE`.
    Raises:
      ValueError: grid_size or num_anchors is not positive.
    """
    check_range("num_anchors", num_anchors, least=1)
    sizes = (*pair("grid_size", grid_size), num_anchors)
    rows = check_array("rows", rows, ("G",), "int")
    places = [rows]
    for name, x in (("columns", columns), ("anchors", anchors)):
        places.append(check_array(name, x, rows.shape, "int"))
    inside = check_array("gt_mask", gt_mask, rows.shape, "bool")
    for place, size in zip(places, sizes, strict=True):
        inside &= (place >= 0) & (place < size)
    index = jnp.where(inside, jnp.arange(len(rows), dtype=jnp.int32), NEGATIVE)
    # The maximum gives the last object. Plain writing would not: its order is undefined on a GPU.
    places = [jnp.where(inside, place, 0) for place in places]
    return jnp.full(sizes, NEGATIVE, jnp.int32).at[tuple(places)].max(index)


def sample_balanced(
    key: Array, positive: Array, negative: Array, *, size: int, positive_fraction: float
) -> tuple[Array, Array]:
    """Draws a random sample of positives and negatives for a loss.

    The sample is uniform and without replacement. It has floor(size * positive_fraction) positives,
    or all if there are fewer. Negatives fill the rest of the sample, or all are taken if there are
    fewer.

    Args:
      key: key[].
      positive: bool[N], True for anchors or proposals that are objects.
      negative: bool[N], True for background. An element that is both counts as positive.
      size: size of the sample: 256 in an RPN, 512 in Faster R-CNN's second stage on a pyramid.
      positive_fraction: largest fraction of positives: 0.5 in an RPN, 0.25 in Fast R-CNN.
    Returns:
      (positive bool[N], negative bool[N]): the positives and the negatives in the sample. To gather
      them as arrays of fixed size, see `mask_to_indices`.
    Raises:
      ValueError: size is less than 1, or positive_fraction is not in [0, 1].
    Source: Ren et al. 2015 ("Faster R-CNN"), section 3.1.3; Girshick 2015 ("Fast R-CNN"),
      section 2.3.
    """
    check_range("size", size, least=1)
    check_range("positive_fraction", positive_fraction, least=0, most=1)
    positive = check_array("positive", positive, ("N",), "bool")
    negative = check_array("negative", negative, positive.shape, "bool") & ~positive
    tickets = jax.random.uniform(key, positive.shape)
    most_positives = int(size * positive_fraction)
    num_positives = jnp.minimum(positive.sum(), most_positives)
    return (
        _draw(tickets, positive, num_positives, most=most_positives),
        _draw(tickets, negative, size - num_positives, most=size),
    )


def _draw(tickets: Array, candidates: Array, count: Array, *, most: int) -> Array:
    """Returns a mask of the `count` candidates (at most `most`) with the highest tickets."""
    value, index = lax.top_k(jnp.where(candidates, tickets, -1), min(most, len(tickets)))
    drawn = (value >= 0) & (jnp.arange(len(value)) < count)
    return jnp.zeros_like(candidates).at[index].set(drawn)


def mask_to_indices(mask: Array, *, size: int) -> tuple[Array, Array]:
    """Returns the positions where a mask is True, as an array of fixed size.

    Args:
      mask: bool[N].
      size: number of positions to return.
    Returns:
      (indices i32[size], valid bool[size]): the first `size` positions in ascending order. If there
      are fewer, the rest has index 0 and is not valid.
    Raises:
      ValueError: size is less than 1.
    """
    check_range("size", size, least=1)
    mask = check_array("mask", mask, ("N",), "bool")
    (indices,) = jnp.nonzero(mask, size=size, fill_value=0)
    return indices.astype(jnp.int32), jnp.arange(size) < mask.sum()


def mine_hard_negatives(
    loss: Array,
    positive: Array,
    negative: Array,
    *,
    ratio: float = 3.0,
    min_negatives: int = 0,
) -> Array:
    """Selects the negatives with the highest loss, a fixed number for each positive.

    Args:
      loss: f32[N], loss of each default box as background.
      positive: bool[N], True for boxes that are objects.
      negative: bool[N], True for background. A box that is both counts as positive.
      ratio: number of negatives for each positive; the product is rounded down.
      min_negatives: smallest number of negatives, for images without objects.
    Returns:
      bool[N], True for the negatives to keep. Of equal losses the first ones are kept.
    Raises:
      ValueError: ratio or min_negatives is negative.
    Source: Liu et al. 2016 ("SSD"), section 2.2, "Hard negative mining".
    """
    check_range("ratio", ratio, least=0)
    check_range("min_negatives", min_negatives, least=0)
    loss = lax.stop_gradient(check_array("loss", loss, ("N",)))
    positive = check_array("positive", positive, loss.shape, "bool")
    negative = check_array("negative", negative, loss.shape, "bool") & ~positive
    count = jnp.maximum(jnp.floor(ratio * positive.sum()).astype(jnp.int32), min_negatives)
    order = jnp.argsort(jnp.where(negative, loss, -jnp.inf), descending=True, stable=True)
    rank = jnp.zeros(len(loss), jnp.int32).at[order].set(jnp.arange(len(loss), dtype=jnp.int32))
    return negative & (rank < count)
