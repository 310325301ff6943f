"""Nearest neighbors, pair by pair."""

import math
from collections import Counter

import numpy as np


def _distance(q, x, metric):
    q, x = q.astype(np.float64), x.astype(np.float64)
    if metric == "l2":
        return math.sqrt(sum((a - b) ** 2 for a, b in zip(q, x, strict=True)))
    lengths = math.sqrt(sum(a * a for a in q)) * math.sqrt(sum(b * b for b in x))
    return 1 - sum(a * b for a, b in zip(q, x, strict=True)) / lengths if lengths else 1.0


def nearest_neighbors(queries, index, *, k, metric="cosine", block=None):
    distances, indices = np.zeros((len(queries), k)), np.zeros((len(queries), k), np.int32)
    for row, q in enumerate(queries):
        found = sorted((_distance(q, x, metric), number) for number, x in enumerate(index))[:k]
        distances[row], indices[row] = zip(*found, strict=True)
    return distances, indices


def majority_vote(labels):
    result = np.zeros(labels.shape[:-1], labels.dtype)
    for place in np.ndindex(result.shape):
        neighbors = labels[place].tolist()
        votes = Counter(neighbors)
        result[place] = next(x for x in neighbors if votes[x] == max(votes.values()))
    return result
