"""The order in which detections are ranked."""

import numpy as np

from jaxvision.metrics.detection_groups import ranked


def test_rows_are_ranked_by_key_score_and_row():
    rng = np.random.default_rng(0)
    cases = [(0, 1, 1), (1, 1, 1), (1000, 1, 1), (1000, 7, 5), (1000, 900, 10**6)]
    for size, keys, scores in cases:
        key, score = rng.integers(0, keys, size), rng.integers(-scores, scores, size) / 3
        score = np.where(rng.random(size) < 0.1, -0.0, score)  # equal to 0.0
        order, score_ranks = ranked(key, score)
        np.testing.assert_array_equal(order, np.lexsort((-score, key)))
        _, expected = np.unique(-score, return_inverse=True)
        np.testing.assert_array_equal(score_ranks, expected[order])
