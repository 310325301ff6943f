"""Masks and keypoints of objects in an evaluation: what a detector finds, and what records have."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxvision.core import Detections, InputError, OptionError, Record
from jaxvision.data import to_run_lengths
from jaxvision.ops import MaskTable, paste_run_lengths, to_original


class FramedDetections(NamedTuple):
    """Detections with masks that are not yet in the image.

    Attributes:
      found: the detections, their boxes in pixels of the original image, clipped to it; their masks
        f32[..., D, M, M], see `jaxvision.core.Detections`.
      frames: f32[..., D, 4], the boxes that the masks cover, not clipped.
      size: i32[..., 2], (height, width) of the original image.
    """

    found: Detections
    frames: Array
    size: Array


def has_masks(found: Detections) -> bool:
    """Tells whether a detector finds masks.

    Args:
      found: what its `decode` gives for one example, or the shapes of that.
    Raises:
      OptionError: its masks have another shape than [D, M, M].
    """
    if found.masks is None:
        return False
    shape, count = found.masks.shape, len(found.boxes)
    if len(shape) != 3 or shape[0] != count or shape[1] != shape[2]:
        raise OptionError(
            "decode",
            f"decode gives masks of shape {shape}: give [{count}, M, M], for each detection the "
            "probabilities inside its box",
        )
    return True


def paste_found(framed: FramedDetections) -> Detections:
    """Pastes the masks of B images into them, on the host.

    Args:
      framed: numpy arrays, each with a leading axis.
    Returns:
      the detections; their masks are object[B], for each image a `MaskTable` of its valid
      detections, in their order.
    """
    found = framed.found
    masks = np.empty(len(found.valid), object)
    for row, (valid, size) in enumerate(zip(found.valid, framed.size.tolist(), strict=True)):
        masks[row] = paste_run_lengths(found.masks[row][valid], framed.frames[row][valid], size)
    return found.replace(masks=masks)


def found_masks(masks: Sequence[MaskTable]) -> MaskTable:
    """Returns the masks of all images, in their order, as one table."""
    return MaskTable.concatenate([MaskTable.of([]), *masks])


def masks_of_records(records: Sequence[Record]) -> MaskTable:
    """Returns the masks of the objects of all records, in their order, as one table.

    Args:
      records: "masks", see `jaxvision.data.to_run_lengths`, and the image's "size".
    """
    return MaskTable.of(
        [
            to_run_lengths(mask, record["size"])
            for record in records
            for mask in record.get("masks") or ()
        ]
    )


def check_objects(records: Sequence[Record], *, masks: bool, keypoints: bool) -> None:
    """Raises InputError if the objects of a record have no masks or keypoints and need them."""
    needed = [name for name, wanted in (("masks", masks), ("keypoints", keypoints)) if wanted]
    for number, record in enumerate(records):
        for name in needed:
            if len(record["labels"]) and record.get(name) is None:
                raise InputError(
                    f"the detector finds {name}, but the objects of record {number} have none to "
                    f"compare them with: give data with {name}, such as COCO's read with "
                    f"{name}=True"
                )


def original_points(keypoints: Array, placement: Array) -> Array:
    """Moves keypoints f[D, K, 3] from the network's input to pixels of the original image."""
    points = jnp.tile(keypoints[..., :2].reshape(-1, 2), 2)
    points = to_original(points, placement)[:, :2].reshape(*keypoints.shape[:2], 2)
    return jnp.concatenate([points, keypoints[..., 2:]], axis=-1)
