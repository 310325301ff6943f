"""The similarity of the keypoints of detections and objects, as COCO defines it, on the host."""

from collections.abc import Sequence

import numpy as np

COCO_KEYPOINT_SIGMAS = (
    *(0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062),
    *(0.107, 0.107, 0.087, 0.087, 0.089, 0.089),
)
"""How far people place each of COCO's 17 keypoints apart: the standard deviation, as a fraction of
the root of the object's area. From nose to ankles; see cocodataset.org, keypoint evaluation."""


def paired_keypoint_similarity(
    predicted: np.ndarray,
    target: np.ndarray,
    boxes: np.ndarray,
    areas: np.ndarray,
    sigmas: Sequence[float],
) -> np.ndarray:
    """Computes the object keypoint similarity (OKS) of each pair of a detection and an object.

    With d_k the distance of a keypoint from that of the object, in pixels, and s^2 the object's
    area, OKS is the mean of exp(-d_k^2 / (2 s^2 (2 sigma_k)^2)) over the object's labelled
    keypoints. For an object without any, d_k is the distance from its box, enlarged by its own
    width and height on each side, and the mean is over all keypoints.

    Args:
      predicted: f64[P, K, 3], xy, pixels; the third value is not used.
      target: f64[P, K, 3], xy, pixels, and visibility: more than 0 for labelled keypoints.
      boxes: f64[P, 4], of the objects, xyxy, pixels.
      areas: f64[P], of the objects, square pixels.
      sigmas: K standard deviations.
    Returns:
      f64[P], in [0, 1].
    Source: cocodataset.org, keypoint evaluation.
    """
    labelled = target[..., 2] > 0
    unlabelled = ~labelled.any(axis=1)
    place = predicted[..., :2]
    shift = place - target[..., :2]
    low, high = boxes[unlabelled, None, :2], boxes[unlabelled, None, 2:]
    low, high = low - (high - low), low + 2 * (high - low)
    place = place[unlabelled]
    shift[unlabelled] = np.maximum(0, low - place) + np.maximum(0, place - high)
    variances = (2 * np.asarray(sigmas, np.float64)) ** 2
    # Divided in the order of pycocotools, for the same rounding; an area of 0 divides too.
    exponent = (shift**2).sum(axis=-1) / variances / (areas[:, None] + np.spacing(1)) / 2
    similarity = np.exp(-exponent)
    counts = labelled | unlabelled[:, None]
    number = counts.sum(axis=1)
    total = np.zeros(len(number))
    # Sums of the labelled keypoints alone are rounded as in pycocotools.
    for several in np.unique(number).tolist():
        rows = number == several
        total[rows] = similarity[rows][counts[rows]].reshape(-1, several).sum(axis=1)
    return total / number


def keypoint_areas(keypoints: np.ndarray) -> np.ndarray:
    """Computes the area of the smallest box around the keypoints: f64[N, K, 3] -> f64[N]."""
    return np.ptp(keypoints[..., :2], axis=1).prod(axis=1)
