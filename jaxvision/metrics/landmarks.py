"""Metrics for landmarks (keypoints), of one example each, as (total, weight)."""

import jax.numpy as jnp
from jax import Array

from jaxvision.core import at_least_float32, check_array


def normalized_landmark_error(
    predicted: Array, target: Array, visible: Array, normalizer: Array | float
) -> tuple[Array, Array]:
    """Distances of landmarks from where they should be, in units of a length of the object.

    total = sum_k |predicted_k - target_k| / normalizer over the visible landmarks k. Divided by
    their number it is the normalised mean error (NME) of the image; the length is the distance
    between the eyes' outer corners, between the pupils, or the size of the face's box. Summed over
    images, each landmark counts the same; the literature's mean over images is that where all
    images show equally many.
    Whatever is not visible counts nothing and has no gradient; so has a landmark without error.

    Args:
      predicted: f32[K, 2], pixels or any unit.
      target: f32[K, 2], in the same unit.
      visible: bool[K].
      normalizer: f32[], the length, in the same unit; above 0 unless nothing is visible.
    Returns:
      (sum of the normalised distances, number of visible landmarks), f32[] both.
    Raises:
      AssertionError: an argument has another shape or dtype.
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
    # The root has no gradient at 0. By equality, so that NaN stays NaN.
    exact = square == 0
    distance = jnp.where(exact, 0, jnp.sqrt(jnp.where(exact, 1, square)))
    total = distance.sum() / jnp.where(visible.any(), normalizer, 1)
    return total, visible.sum().astype(total.dtype)
