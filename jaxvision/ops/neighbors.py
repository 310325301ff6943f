"""Nearest neighbors among rows of features."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxvision.core import at_least_float32, check_array, check_choice
from jaxvision.ops.static import integer

NEIGHBOR_METRICS = ("cosine", "l2")
"""Names of distances between rows, see `nearest_neighbors`."""


def nearest_neighbors(
    queries: Array, index: Array, *, k: int, metric: str = "cosine", block: int = 1024
) -> tuple[Array, Array]:
    """Finds the k rows of an index that are nearest to each query, nearest first.

    The search is exact: every query is compared with every row. Blocks of `block` queries and
    `block` rows are compared at a time, so that at most block (block + k D) numbers are in memory
    at once. The nearest rows are found by matrix products in full precision; a row may take the
    place of the k-th nearest one if their distances differ by no more than the rounding of these
    products. The distances are then computed from the rows themselves. Of equal distances the lower
    index comes first.

    Args:
      queries: f32[M, D], finite.
      index: f32[N, D], finite. A row that is not finite can make all distances wrong.
      k: number of neighbors of each query, at most N.
      metric: "cosine", 1 - q.x / (|q| |x|), in [0, 2], where a row of zeros has distance 1 from all
        rows; or "l2", |q - x|.
      block: number of queries, and of rows of the index, that are compared at once.
    Returns:
      distances f32[M, k], in ascending order, and indices i32[M, k] into the index.
    Raises:
      ValueError: metric is unknown, k is less than 1 or more than N, or block is less than 1.
    """
    queries = at_least_float32(check_array("queries", queries, ("M", "D")))
    index = at_least_float32(check_array("index", index, ("N", queries.shape[1])))
    check_choice("metric", metric, NEIGHBOR_METRICS)
    if integer("k", k) > len(index):
        raise ValueError(f"k is {k}: give at most {len(index)}, the number of rows of the index")
    block = integer("block", block)
    if not len(queries):
        return jnp.zeros((0, k), queries.dtype), jnp.zeros((0, k), jnp.int32)
    blocks = min(block, len(queries)), min(block, len(index))
    return _nearest(queries, index, k=k, metric=metric, blocks=blocks)


def majority_vote(labels: Array) -> Array:
    """Returns the most frequent label of the neighbors; of ties the label of the nearest one.

    Args:
      labels: int[..., k], labels of the neighbors, nearest first.
    Returns:
      int[...].
    Raises:
      AssertionError: k is 0.
    Source: Cover and Hart 1967 ("Nearest neighbor pattern classification").
    """
    labels = check_array("labels", labels, ("...", "k"), "int")
    if not labels.shape[-1]:
        raise AssertionError(f"labels is {labels.dtype}{list(labels.shape)}: give a neighbor")
    votes = (labels[..., :, None] == labels[..., None, :]).sum(axis=-1)
    first = votes.argmax(axis=-1, keepdims=True)
    return jnp.take_along_axis(labels, first, axis=-1)[..., 0]


# Compiled as a whole, so that an eager call compiles once.
@functools.partial(jax.jit, static_argnames=("k", "metric", "blocks"))
def _nearest(
    queries: Array, index: Array, *, k: int, metric: str, blocks: tuple[int, int]
) -> tuple[Array, Array]:
    if metric == "cosine":
        queries, index = _directions(queries), _directions(index)
    middle = _middle(index) if metric == "l2" else jnp.zeros_like(index[:1])
    rows, starts = _in_blocks(lax.stop_gradient(index) - middle, blocks[1])
    places = jnp.arange(blocks[1], dtype=starts.dtype)
    real = starts[:, None] + places[None] < len(index)
    # q.x orders unit vectors as the cosine does; q.x - |x|^2 / 2 orders rows as |q - x| does.
    offsets = -(rows**2).sum(axis=-1) / 2 if metric == "l2" else jnp.zeros(real.shape, rows.dtype)
    offsets = jnp.where(real, offsets, -jnp.inf)

    def of_queries(some: Array) -> tuple[Array, Array]:
        fixed = lax.stop_gradient(some) - middle

        def merge(best: tuple[Array, Array], part: tuple[Array, ...]) -> Any:
            rows, offsets, start = part
            scores = jnp.matmul(fixed, rows.T, precision=lax.Precision.HIGHEST) + offsets[None]
            number = jnp.broadcast_to((start + places)[None], scores.shape)
            # Of equal scores `top_k` takes the first, which has the lower index.
            scores, number = (
                jnp.concatenate(pair, axis=1) for pair in zip(best, (scores, number), strict=True)
            )
            scores, best_places = lax.top_k(scores, k)
            return (scores, jnp.take_along_axis(number, best_places, axis=1)), None

        nothing = (
            jnp.full((len(some), k), -jnp.inf, some.dtype),
            jnp.zeros((len(some), k), starts.dtype),
        )
        (_, found), _ = lax.scan(merge, nothing, (rows, offsets, starts))
        distances = _distances(some[:, None], index[found], metric)
        return lax.sort((distances, found), dimension=1, num_keys=2)

    distances, found = lax.map(of_queries, _in_blocks(queries, blocks[0])[0])
    return tuple(x.reshape(-1, k)[: len(queries)] for x in (distances, found))


def _middle(x: Array) -> Array:
    """Returns a vector near the mean, [1, D], to subtract from all rows.

    The products of the differences have smaller rounding errors if all rows are far from 0. The
    vector has few bits, so that differences and squares of small whole numbers stay exact.
    """
    mean = lax.stop_gradient(x).mean(axis=0, keepdims=True)
    return lax.reduce_precision(mean, jnp.finfo(mean.dtype).nexp, mantissa_bits=7)


def _in_blocks(x: Array, block: int) -> tuple[Array, Array]:
    """Returns blocks of rows, [blocks, block, D], padded with zeros, and the first row of each."""
    x = jnp.pad(x, ((0, -len(x) % block), (0, 0)))
    return x.reshape(-1, block, x.shape[1]), jnp.arange(0, len(x), block, dtype=jnp.int32)


def _directions(x: Array) -> Array:
    """Normalises rows to length 1; rows of zeros stay zeros."""
    largest = jnp.abs(x).max(axis=1, keepdims=True, initial=0)
    zero = largest == 0
    x = x / lax.stop_gradient(jnp.where(zero, 1, largest))  # prevents overflow of the squares
    square = jnp.where(zero, 1, (x**2).sum(axis=1, keepdims=True))
    return x / jnp.sqrt(square)


def _distances(queries: Array, rows: Array, metric: str) -> Array:
    """Computes the distances of pairs of rows along the last axis."""
    if metric == "cosine":
        return jnp.clip(1 - (queries * rows).sum(axis=-1), 0, 2)
    square = ((queries - rows) ** 2).sum(axis=-1)
    same = square == 0
    return jnp.where(same, 0, jnp.sqrt(jnp.where(same, 1, square)))
