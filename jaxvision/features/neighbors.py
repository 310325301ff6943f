"""Finds nearest neighbors in features."""

import jax
import numpy as np

from jaxvision.core import check_range, lookup
from jaxvision.ops import NEIGHBOR_METRICS, nearest_neighbors


def find_neighbors(
    queries: np.ndarray,
    index: np.ndarray,
    *,
    k: int,
    metric: str = "cosine",
    leave_out_self: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the nearest neighbors of each query; see `jaxvision.ops.nearest_neighbors`.

    Args:
      queries: f32[M, D].
      index: f32[N, D], what is searched.
      k: neighbors of each query, at least 1 and at most N, or N - 1 with `leave_out_self`.
      metric: one of `jaxvision.ops.NEIGHBOR_METRICS`.
      leave_out_self: queries and index are the same rows, and no row is its own neighbor.
    Returns:
      (distances f32[M, k], the nearest first; numbers i32[M, k] of rows of the index), on the host.
    Raises:
      AssertionError: an argument has another shape or dtype.
      InputError: k is out of range, or the metric is unknown.
    """
    lookup(dict.fromkeys(NEIGHBOR_METRICS), metric, "metric")
    check_range("k", k, least=1, most=len(index) - leave_out_self)
    distances, found = jax.device_get(
        nearest_neighbors(queries, index, k=k + leave_out_self, metric=metric)
    )
    if not leave_out_self:
        return distances, found
    # Of each row one entry is left out: the query, or the last where k others are as near.
    own = found == np.arange(len(found))[:, None]
    own[:, -1] |= ~own.any(axis=1)
    return distances[~own].reshape(-1, k), found[~own].reshape(-1, k)
