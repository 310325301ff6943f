"""Metrics for landmarks (keypoints), each of one example, which return (total, weight)."""

import jax.numpy as jnp
from jax import Array

from jaxvision.core import at_least_float32, check_array


def normalized_landmark_error(
    predicted: Array, target: Array, visible: Array, normalizer: Array | float
) -> tuple[Array, Array]:
    """Computes the distances of landmarks from their targets, in units of a length of the object.

    total = sum_k |predicted_k - target_k| / normalizer over the visible landmarks k. total / weight
    is the normalised mean error (NME) of the image. The length is usually the distance between the
    outer corners of the eyes or between the pupils, or the size of the face's box. Summed over
    images, each landmark counts the same; the mean over images, which papers report, is equal if
    all images show the same number of landmarks. Landmarks that are not visible do not count and
    have no gradient. A landmark without error has no gradient either.

    Args:
      predicted: f32[K, 2], in pixels or any unit.
      target: f32[K, 2], in the same unit.
      visible: bool[K].
      normalizer: f32[], the length, in the same unit; above 0 unless nothing is visible.
    Returns:
      (sum of the normalised distances, number of visible landmarks), both f32[].
    Source: Sagonas et al. 2013 ("300 faces in-the-wild challenge"), for the distance between the
      eyes' outer corners.
    """
    predicted = check_array("predicted", predicted, ("K", 2))
    target = check_array("target", target, predicted.shape)
    visible = check_array("visible", visible, predicted.shape[:1], "bool")
    normalizer = check_array("normalizer", normalizer, (), "number")
    predicted, target, normalizer = (at_least_float32(x) for x in (predicted, target, normalizer))
    shown = visible[:, None]
    square = ((jnp.where(shown, predicted, 0) - jnp.where(shown, target, 0)) ** 2).sum(axis=1)
    # The root has no finite gradient at 0. Testing equality with 0 keeps NaN as NaN.
    exact = square == 0
    distance = jnp.where(exact, 0, jnp.sqrt(jnp.where(exact, 1, square)))
    total = distance.sum() / jnp.where(visible.any(), normalizer, 1)
    return total, visible.sum().astype(total.dtype)
