"""Non-maximum suppression of fixed size: exact, greedy, and without a loop over boxes.

Boxes are processed in descending order of score, ties by lower index. A box is suppressed if its
IoU with a box kept before is above the threshold. A box whose score is NaN or -inf is absent: mark
padding in this way. No gradient flows through the results.

Implementation: the sorted boxes are divided into tiles. First, the boxes kept so far suppress boxes
of a tile, block by block. Then the suppression within the tile is resolved: `kept = alive and not
(suppressed by a kept one)` is iterated on the tile's own matrix until nothing changes. This gives
the greedy result after at most as many rounds as the longest chain of suppressions, rarely more
than ten. Kept boxes are compacted. The loop ends after the last present box or when enough boxes
are kept. `benchmarks/nms.py` has the measurements for the sizes of the tiles.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxvision.core import at_least_float32, check_array, check_range
from jaxvision.ops.boxes import Sides, centre_distance, iou_and_union, split_sides
from jaxvision.ops.primitives import by_platform

# On a CPU the matrix of a tile should fit into the cache. On an accelerator few large steps need
# fewer kernels than many small ones, but the matrix grows with the square of the tile:
# docs/accelerators.md has both.
_CPU_TILE = 256
_ACCELERATOR_TILE = 2048


def nms(
    boxes: Array,
    scores: Array,
    *,
    iou_threshold: float | Array,
    max_detections: int,
    score_threshold: float | Array = -jnp.inf,
    distance_power: float | None = None,
) -> tuple[Array, Array]:
    """Computes greedy non-maximum suppression.

    Args:
      boxes: f32[N, 4], xyxy. A box without area is not suppressed and suppresses no other box.
      scores: f32[N].
      iou_threshold: a box is suppressed if its IoU with a kept box is above this.
      max_detections: size of the result, static.
      score_threshold: boxes are absent unless their score is above this.
      distance_power: beta: what is compared with the threshold is IoU - (d / c)^beta, with d the
        squared distance of the centres and c the squared diagonal of the smallest box around both;
        None: the IoU.
    Returns:
      indices: i32[max_detections], kept boxes in descending order of score; 0 where not valid.
      valid: bool[max_detections].
    Raises:
      ValueError: max_detections is less than 1, or distance_power is not positive.
    Source: Zheng et al. 2020 ("Distance-IoU loss"), section 3.4, has `distance_power` 1.
    """
    boxes = check_array("boxes", boxes, ("N", 4))
    scores = check_array("scores", scores, (boxes.shape[0],))
    how = max_detections, distance_power
    return _nms(boxes, scores, None, iou_threshold, score_threshold, *how)


def batched_nms(
    boxes: Array,
    scores: Array,
    classes: Array,
    *,
    iou_threshold: float | Array,
    max_detections: int,
    score_threshold: float | Array = -jnp.inf,
    distance_power: float | None = None,
) -> tuple[Array, Array]:
    """Computes greedy non-maximum suppression within each class.

    Boxes of different classes never suppress each other. The classes are compared; no offset is
    added to the coordinates, so that nothing is lost to rounding.

    Args:
      boxes: f32[N, 4], xyxy.
      scores: f32[N].
      classes: i32[N], any values.
      iou_threshold: a box is suppressed if its IoU with a kept box of its class is above this.
      max_detections: size of the result, over all classes; static.
      score_threshold: boxes are absent unless their score is above this.
      distance_power: beta: what is compared with the threshold is IoU - (d / c)^beta, with d the
        squared distance of the centres and c the squared diagonal of the smallest box around both;
        None: the IoU.
    Returns:
      indices: i32[max_detections], kept boxes in descending order of score; 0 where not valid.
      valid: bool[max_detections].
    Raises:
      ValueError: max_detections is less than 1.
    """
    boxes = check_array("boxes", boxes, ("N", 4))
    scores = check_array("scores", scores, (boxes.shape[0],))
    classes = check_array("classes", classes, (boxes.shape[0],), "int")
    how = max_detections, distance_power
    return _nms(boxes, scores, classes, iou_threshold, score_threshold, *how)


def multiclass_nms(
    boxes: Array,
    scores: Array,
    *,
    iou_threshold: float | Array,
    max_detections: int,
    score_threshold: float | Array = -jnp.inf,
    max_candidates: int | None = None,
    distance_power: float | None = None,
) -> tuple[Array, Array, Array]:
    """Computes `batched_nms` of boxes that have a score for each class.

    A box may be kept for several classes.

    Args:
      boxes: f32[N, 4], xyxy, or f32[N, C, 4] with a separate box for each class.
      scores: f32[N, C].
      iou_threshold: a box is suppressed if its IoU with a kept box of its class is above this.
      max_detections: size of the result, over all classes; static.
      score_threshold: pairs of box and class are absent unless their score is above this.
      max_candidates: number of the N * C pairs, those of the highest scores, that enter the
        suppression; None takes all. About a thousand are enough in practice, while N * C may be a
        million.
      distance_power: beta: what is compared with the threshold is IoU - (d / c)^beta, with d the
        squared distance of the centres and c the squared diagonal of the smallest box around both;
        None: the IoU.
    Returns:
      indices: i32[max_detections], kept boxes in descending order of score; 0 where not valid.
      classes: i32[max_detections]; 0 where not valid.
      valid: bool[max_detections].
    Raises:
      ValueError: max_detections or max_candidates is less than 1.
    """
    scores = check_array("scores", scores, ("N", "C"))
    count, num_classes = scores.shape
    per_class = jnp.ndim(boxes) == 3
    shape = (count, num_classes, 4) if per_class else (count, 4)
    boxes = check_array("boxes", boxes, shape)
    if max_candidates is not None:
        check_range("max_candidates", max_candidates, least=1)

    pairs = jnp.arange(count * num_classes, dtype=jnp.int32)
    flat = _absent_as_minus_inf(lax.stop_gradient(scores).reshape(-1), score_threshold)
    if max_candidates is not None and max_candidates < flat.size:
        flat, pairs = lax.top_k(flat, max_candidates)  # ties by lower index, as it is documented
    box_of, class_of = pairs // num_classes, pairs % num_classes
    candidates = boxes.reshape(-1, 4)[pairs] if per_class else boxes[box_of]
    how = max_detections, distance_power
    kept, valid = _nms(candidates, flat, class_of, iou_threshold, -jnp.inf, *how)
    if not flat.size:
        return kept, kept, valid
    return jnp.where(valid, box_of[kept], 0), jnp.where(valid, class_of[kept], 0), valid


def per_class_nms(
    boxes: Array,
    scores: Array,
    *,
    iou_threshold: float | Array,
    max_detections: int,
    max_per_class: int,
    score_threshold: float | Array = -jnp.inf,
) -> tuple[Array, Array, Array]:
    """Computes `multiclass_nms` of the best boxes of each class, as SSD does.

    Args:
      boxes: f32[N, 4], xyxy.
      scores: f32[N, C].
      iou_threshold: a box is suppressed if its IoU with a kept box of its class is above this.
      max_detections: size of the result, over all classes; static.
      max_per_class: number of boxes of each class, those of the highest scores, that enter the
        suppression; of equal scores the first ones.
      score_threshold: pairs of box and class are absent unless their score is above this.
    Returns:
      indices: i32[max_detections], kept boxes in descending order of score, then by class, then by
        index; 0 where not valid.
      classes: i32[max_detections]; 0 where not valid.
      valid: bool[max_detections].
    Raises:
      ValueError: max_detections or max_per_class is less than 1.
    """
    scores = check_array("scores", scores, ("N", "C"))
    boxes = check_array("boxes", boxes, (len(scores), 4))
    check_range("max_detections", max_detections, least=1)
    check_range("max_per_class", max_per_class, least=1)
    if not scores.size:
        nothing = jnp.zeros(max_detections, jnp.int32)
        return nothing, nothing, jnp.zeros(max_detections, bool)
    arrays = boxes, scores, iou_threshold, score_threshold
    sizes = {"max_detections": max_detections, "max_per_class": max_per_class}
    return _per_class_nms(*lax.stop_gradient(arrays), **sizes)


# The best pairs of all that are looked at first: in nearly all images they are enough.
_FIRST_PAIRS = 2048


@partial(jax.jit, static_argnames=("max_detections", "max_per_class"))
def _per_class_nms(
    boxes: Array,
    scores: Array,
    iou_threshold: Array,
    score_threshold: Array,
    *,
    max_detections: int,
    max_per_class: int,
) -> tuple[Array, Array, Array]:
    """Suppresses the best pairs of all; only if too few are kept, the best of each class.

    A detection depends on none with a lower score, so that both give the same. The second is a loop
    of at most one round: under vmap it is left out unless some image needs it.
    """
    count, num_classes = scores.shape
    by_class = _absent_as_minus_inf(scores, score_threshold).T  # ordered by class, then by index

    def suppress(flat: Array, pairs: Array) -> tuple[Array, Array]:
        candidates, class_of = boxes[pairs % count], pairs // count
        kept, valid = _nms(candidates, flat, class_of, iou_threshold, -jnp.inf, max_detections)
        return pairs[kept], valid

    flat, pairs = lax.top_k(by_class.reshape(-1), min(_FIRST_PAIRS, scores.size))
    allowed = _rank_in_class(pairs // count, num_classes) < max_per_class
    first = suppress(jnp.where(allowed, flat, -jnp.inf), pairs)
    # Not flat[-1]: with a slice of its result, XLA's CPU compiler makes a full sort of top_k.
    all_seen = (flat.min() == -jnp.inf) | (len(flat) == scores.size)
    enough = first[1].all() | all_seen

    def all_pairs(state: tuple[Array, tuple[Array, Array]]) -> tuple[Array, tuple[Array, Array]]:
        # It depends on the state, so that XLA cannot move it out of the loop and always compute it.
        left = jnp.where(state[0], -jnp.inf, by_class)
        best, places = lax.top_k(left, min(max_per_class, count))
        pairs = places + count * jnp.arange(num_classes, dtype=places.dtype)[:, None]
        return jnp.ones_like(state[0]), suppress(best.reshape(-1), pairs.reshape(-1))

    _, (found, valid) = lax.while_loop(lambda state: ~state[0], all_pairs, (enough, first))
    return jnp.where(valid, found % count, 0), jnp.where(valid, found // count, 0), valid


def _rank_in_class(classes: Array, num_classes: int) -> Array:
    """Counts for each element those of its class before it: i32[N] -> i32[N]."""
    order = jnp.argsort(classes, stable=True)
    numbers = jnp.arange(len(classes), dtype=jnp.int32)
    counts = jnp.zeros(num_classes, jnp.int32).at[classes].add(1)
    starts = jnp.cumsum(counts) - counts
    return jnp.zeros_like(numbers).at[order].set(numbers - starts[classes[order]])


def soft_nms(
    boxes: Array,
    scores: Array,
    *,
    max_detections: int,
    method: str = "gaussian",
    sigma: float | Array = 0.5,
    iou_threshold: float | Array = 0.3,
    score_threshold: float | Array = 0.001,
) -> tuple[Array, Array, Array]:
    """Computes soft-NMS: overlap with a kept box lowers the score of a box.

    In each step the box with the highest score is kept, ties by lower index. Then every remaining
    box i gets s_i <- s_i f(IoU), with f(u) = exp(-u^2 / sigma) for "gaussian", or, for "linear",
    f(u) = 1 - u if u >= iou_threshold and 1 otherwise. Lower scores change the order, so each step
    depends on the step before. A step takes O(N).

    Args:
      boxes: f32[N, 4], xyxy.
      scores: f32[N], not negative. Boxes with a score of NaN or -inf are absent.
      max_detections: size of the result, static.
      method: "gaussian" or "linear".
      sigma: sigma of "gaussian".
      iou_threshold: threshold of "linear".
      score_threshold: the search ends when no score is above this.
    Returns:
      indices: i32[max_detections], in the order in which boxes were kept; 0 where not valid.
      scores: f32[max_detections], the lowered scores in descending order; 0 where not valid.
      valid: bool[max_detections].
    Raises:
      ValueError: method is unknown, or max_detections is less than 1.
    Source: Bodla et al. 2017 ("Soft-NMS"), figure 2 and section 3.
    """
    boxes = check_array("boxes", boxes, ("N", 4))
    scores = check_array("scores", scores, (boxes.shape[0],))
    if method not in ("gaussian", "linear"):
        raise ValueError(f"method is {method!r}: choose gaussian or linear")
    check_range("max_detections", max_detections, least=1)
    if not scores.size:
        nothing = jnp.zeros(max_detections, jnp.int32), jnp.zeros(max_detections, scores.dtype)
        return *nothing, jnp.zeros(max_detections, bool)
    arrays = boxes, scores, sigma, iou_threshold, score_threshold
    return _soft_nms(*lax.stop_gradient(arrays), max_detections=max_detections, method=method)


@partial(jax.jit, static_argnames=("max_detections", "method"))
def _soft_nms(
    boxes: Array,
    scores: Array,
    sigma: Array,
    iou_threshold: Array,
    score_threshold: Array,
    *,
    max_detections: int,
    method: str,
) -> tuple[Array, Array, Array]:
    sides = split_sides(at_least_float32(boxes))
    scores = _absent_as_minus_inf(scores, score_threshold)

    def decay(iou: Array) -> Array:
        if method == "gaussian":
            return jnp.exp(-(iou**2) / sigma)
        return jnp.where(iou >= iou_threshold, 1 - iou, 1)

    def choose(carry: tuple[Array, ...]) -> tuple[Array, ...]:
        count, scores, chosen, chosen_scores = carry
        best = jnp.argmax(scores)
        chosen = chosen.at[count].set(best.astype(jnp.int32))
        chosen_scores = chosen_scores.at[count].set(scores[best])
        iou, _ = iou_and_union(Sides(*(x[best] for x in sides)), sides)
        lowered = jnp.where(scores > -jnp.inf, scores * decay(iou), -jnp.inf)
        lowered = _absent_as_minus_inf(lowered, score_threshold)
        return count + 1, lowered.at[best].set(-jnp.inf), chosen, chosen_scores

    def more(carry: tuple[Array, ...]) -> Array:
        count, scores, *_ = carry
        return (count < max_detections) & jnp.any(scores > -jnp.inf)

    empty = jnp.zeros(max_detections, jnp.int32), jnp.zeros(max_detections, scores.dtype)
    count, _, indices, chosen_scores = lax.while_loop(more, choose, (0, scores, *empty))
    return indices, chosen_scores, jnp.arange(max_detections) < count


def _absent_as_minus_inf(scores: Array, threshold: float | Array) -> Array:
    scores = at_least_float32(scores)
    return jnp.where(scores > threshold, scores, -jnp.inf)  # false for NaN


def _nms(
    boxes: Array,
    scores: Array,
    classes: Array | None,
    iou_threshold: float | Array,
    score_threshold: float | Array,
    max_detections: int,
    distance_power: float | None = None,
) -> tuple[Array, Array]:
    check_range("max_detections", max_detections, least=1)
    if distance_power is not None:
        check_range("distance_power", distance_power, more_than=0)
    if not scores.size:
        return jnp.zeros(max_detections, jnp.int32), jnp.zeros(max_detections, bool)
    tiles = tuple(min(tile, scores.size) for tile in (_CPU_TILE, _ACCELERATOR_TILE))
    arrays = boxes, scores, classes, iou_threshold, score_threshold
    how = {"max_detections": max_detections, "distance_power": distance_power, "tiles": tiles}
    return _choose_tile(*lax.stop_gradient(arrays), **how)


# Compiled as a whole, so that an eager call compiles once.
@partial(jax.jit, static_argnames=("max_detections", "distance_power", "tiles"))
def _choose_tile(
    boxes: Array,
    scores: Array,
    classes: Array | None,
    iou_threshold: Array,
    score_threshold: Array,
    *,
    max_detections: int,
    distance_power: float | None,
    tiles: tuple[int, int],
) -> tuple[Array, Array]:
    """Runs `_suppress` with the platform's tile and pads the result to `max_detections`."""
    boxes = at_least_float32(boxes)
    scores = _absent_as_minus_inf(scores, score_threshold)
    threshold = jnp.asarray(iou_threshold, boxes.dtype)
    limit = min(max_detections, scores.size)
    suppress = partial(_suppress, limit=limit, distance_power=distance_power)
    cpu, accelerator = (partial(suppress, tile=tile) for tile in tiles)
    indices, valid = by_platform(boxes, scores, classes, threshold, default=accelerator, cpu=cpu)
    rest = (0, max_detections - limit)
    return jnp.pad(indices, rest), jnp.pad(valid, rest)


class _Kept(NamedTuple):
    """The boxes kept so far, in order; the rest is zeros, which suppress nothing."""

    count: Array  # i32[]
    sides: Array  # [4, capacity]
    classes: Array | None  # [capacity]
    positions: Array  # i32[capacity], in descending order of score


def _suppress(
    boxes: Array,
    scores: Array,
    classes: Array | None,
    threshold: Array,
    *,
    limit: int,
    distance_power: float | None,
    tile: int,
) -> tuple[Array, Array]:
    """Returns the first `limit` kept boxes: indices i32[limit] and valid bool[limit]."""
    count = scores.size
    tiles = -(-count // tile)
    falling, order = lax.sort_key_val(-scores, jnp.arange(count, dtype=jnp.int32))
    present = (falling < jnp.inf).sum(dtype=jnp.int32)

    def sort(x: Array) -> Array:
        """Sorts by score and pads: [count, ...] -> [..., tiles * tile]."""
        return jnp.pad(x[order].T, [(0, 0)] * (x.ndim - 1) + [(0, tiles * tile - count)])

    sides = sort(boxes)
    classes = None if classes is None else sort(classes)

    def cut(x: Array | None, block: Array) -> Array | None:
        return None if x is None else lax.dynamic_slice_in_dim(x, block * tile, tile, axis=-1)

    def suppresses(a: Array, class_a: Array | None, b: Array, class_b: Array | None) -> Array:
        """Returns bool[tile, tile]: whether each box of a, if kept, suppresses each box of b."""
        first, second = Sides(*(x[:, None] for x in a)), Sides(*(x[None] for x in b))
        overlap, _ = iou_and_union(first, second)
        if distance_power is not None:
            overlap -= centre_distance(first, second) ** distance_power
        suppressed = overlap > threshold
        return suppressed if class_a is None else suppressed & (class_a[:, None] == class_b[None])

    earlier = jnp.triu(jnp.ones((tile, tile), bool), 1)

    def step(carry: tuple[Array, _Kept]) -> tuple[Array, _Kept]:
        block, kept = carry
        own, own_classes = cut(sides, block), cut(classes, block)
        positions = block * tile + jnp.arange(tile, dtype=jnp.int32)

        def thin(i: Array, alive: Array) -> Array:
            suppressed = suppresses(cut(kept.sides, i), cut(kept.classes, i), own, own_classes)
            return alive & ~suppressed.any(axis=0)

        blocks = (kept.count + tile - 1) // tile
        alive = lax.fori_loop(0, blocks, thin, positions < present)

        suppressed = suppresses(own, own_classes, own, own_classes) & earlier & alive[:, None]

        def resolve(state: tuple[Array, Array]) -> tuple[Array, Array]:
            before, _ = state
            after = alive & ~(suppressed & before[:, None]).any(axis=0)
            return after, (after != before).any()

        stays, _ = lax.while_loop(lambda state: state[1], resolve, (alive, jnp.array(True)))

        slots = jnp.where(stays, kept.count + jnp.cumsum(stays) - 1, capacity)

        def append(to: Array | None, values: Array | None) -> Array | None:
            return None if to is None else to.at[..., slots].set(values, mode="drop")

        return block + 1, _Kept(
            kept.count + stays.sum(dtype=jnp.int32),
            append(kept.sides, own),
            append(kept.classes, own_classes),
            append(kept.positions, positions),
        )

    def more(carry: tuple[Array, _Kept]) -> Array:
        block, kept = carry
        return (block * tile < present) & (kept.count < limit)

    # The last step starts with fewer than `limit` kept boxes and may keep a whole tile.
    capacity = -(-limit // tile) * tile + tile
    nothing = _Kept(
        jnp.int32(0),
        jnp.zeros((4, capacity), boxes.dtype),
        None if classes is None else jnp.zeros(capacity, classes.dtype),
        jnp.zeros(capacity, jnp.int32),
    )
    _, kept = lax.while_loop(more, step, (jnp.int32(0), nothing))
    valid = jnp.arange(limit) < kept.count
    return jnp.where(valid, order[kept.positions[:limit]], 0), valid
