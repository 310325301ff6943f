"""The loss of classification with localisation: one class and one box for each image."""

from jax import Array

from jaxvision.core import Terms, check_array, check_range
from jaxvision.losses.classification import cross_entropy
from jaxvision.losses.regression import l2_loss


def localization_loss(
    logits: Array,
    box: Array,
    target: Array,
    target_box: Array,
    has_box: Array,
    *,
    box_weight: float = 1.0,
    label_smoothing: float = 0.0,
) -> Terms:
    """Computes the loss of an image with one object: softmax for its class, L2 for its box.

    - "classification": the cross entropy
    - "box": box_weight sum_i (b_i - t_i)^2 over the four coordinates; 0 for an image without a box

    Both have weight 1 for every image, with or without a box.

    Args:
      logits: f32[K].
      box: f32[4], predicted coordinates, usually fractions of the image.
      target: a class, i32[], or a distribution, f32[K].
      target_box: f32[4], in the same format and unit as `box`.
      has_box: bool[], False where there is no object to localise.
      box_weight: weight of the box against the class.
      label_smoothing: see `cross_entropy`.
    Returns:
      {"classification": (total, 1), "box": (total, 1)}, f32[] each.
    Raises:
      ValueError: an option is out of range.
    Source: Sermanet et al. 2014 ("OverFeat"), section 4, which regresses the corners of the box.
    """
    check_range("box_weight", box_weight, least=0)
    box = check_array("box", box, (4,))
    target_box = check_array("target_box", target_box, (4,))
    has_box = check_array("has_box", has_box, (), "bool")
    classification = cross_entropy(logits, target, label_smoothing=label_smoothing)
    total, _ = l2_loss(box, target_box, has_box)
    return {"classification": classification, "box": (box_weight * total, classification[1])}
