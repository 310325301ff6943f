"""The loss of the keypoints of Keypoint R-CNN."""

import jax.numpy as jnp
from jax import Array, lax

from jaxvision.core import Terms, at_least_float32, check_array
from jaxvision.losses.detection import of_match
from jaxvision.losses.elements import softmax_cross_entropy
from jaxvision.losses.reduction import sum_counted
from jaxvision.ops import keypoint_cells


def keypoint_rcnn_loss(
    keypoint_logits: Array,
    proposals: Array,
    matches: Array,
    keypoints: Array,
) -> Terms:
    """Computes the loss of the keypoints of Keypoint R-CNN, over the foreground proposals.

    "keypoint" is the sum of -log p[c] over the keypoints that count, with p the softmax of a map
    over its S S cells and c the cell of the object's keypoint in the proposal (`keypoint_cells`).
    Keypoints that are not labelled or outside the proposal do not count. The sum over the batch is
    divided by the number of keypoints of the batch, as in torchvision.

    Args:
      keypoint_logits: f32[R, S, S, K], a map of each keypoint in each proposal.
      proposals: f32[R, 4], xyxy, pixels.
      matches: i32[R]: the index of an object; `NEGATIVE` and `IGNORE` do not count. The index of an
        object that does not exist gives NaN.
      keypoints: f32[G, K, 3], of the objects, xy, pixels, and visibility: more than 0 for labelled
        keypoints.
    Returns:
      {"keypoint": (total, number of keypoints that count)}, f32[] each.
    Raises:
      ValueError: G is 0, or the maps have no cells.
    Source: He et al. 2017 ("Mask R-CNN"), section 5 ("Human pose estimation").
    """
    x = at_least_float32(check_array("keypoint_logits", keypoint_logits, ("R", "S", "S", "K")))
    proposals = check_array("proposals", proposals, (len(x), 4))
    matches = check_array("matches", matches, x.shape[:1], "int")
    keypoints = check_array("keypoints", keypoints, ("G", x.shape[-1], 3))

    exists = matches < len(keypoints)
    matched = of_match(keypoints, jnp.where(exists, matches, 0))
    cells, counts = keypoint_cells(
        lax.stop_gradient(matched), lax.stop_gradient(proposals), size=x.shape[1]
    )
    counts = (counts | ~exists[:, None]) & (matches >= 0)[:, None]
    # The cell S S does not exist: it gives NaN.
    cells = jnp.where(exists[:, None], cells, x.shape[1] ** 2)
    logits = jnp.moveaxis(x, -1, 1).reshape(*cells.shape, -1)
    return {"keypoint": sum_counted(softmax_cross_entropy, counts, logits, cells)}
