"""The structures that flow through the library.

One struct serves a batch and, without the leading B axis, one example of it: under `jax.vmap` a
loss sees the example. What is ragged is padded once, on the host, and always carries a mask.
"""

from typing import Any

import flax.struct
import jax.numpy as jnp
from jax import Array


@flax.struct.dataclass
class ClassificationBatch:
    """Images with a class each.

    Attributes:
      image: [B, H, W, C], RGB or grey. uint8 from the host; float32, normalised, after `prepare`.
      label: i32[B], or f32[B, num_classes] for soft targets.
      weight: f32[B], how much each example counts in the loss.
      mask: bool[B], False for filler images, which count nowhere.
      partners: other examples that arrive with each one ([B, P, ...]) for augmentations that
        combine several, or None.
      extent: i32[B, 2], (height, width) of the image without the padding at its bottom and right,
        in pixels of the network's input; None: all of it.
    """

    image: Array
    label: Array
    weight: Array
    mask: Array
    partners: Any = None
    extent: Any = None


@flax.struct.dataclass
class DetectionBatch:
    """Images with boxes.

    Attributes:
      image: [B, H, W, C], as in `ClassificationBatch`.
      boxes: f32[B, N, 4], xyxy, pixels of the network input.
      labels: i32[B, N].
      box_mask: bool[B, N], False for padding.
      crowd: bool[B, N], True for a region of many objects (COCO).
      difficult: bool[B, N], True for objects that evaluation ignores (VOC).
      mask: bool[B], False for filler images.
      partners, extent: as in `ClassificationBatch`.
      placement: f32[B, 4], where the original image lies in the network's input: x = scale_x
        x_original + offset_x as (scale_x, scale_y, offset_x, offset_y), or None.
      size: i32[B, 2], (height, width) of the original image, or None.
      masks: bool[B, N, H, W], the pixels of each object in the network's input, or None.
      area: f32[B, N], square pixels of the original image, by which COCO sorts objects, or None;
        for evaluation only.
      keypoints: f32[B, N, K, 3] of each object, (x, y) in pixels of the network's input and
        visibility (0 absent, 1 hidden, 2 visible), or None.
      index: i32[B], of the record in its source, or None.
    """

    image: Array
    boxes: Array
    labels: Array
    box_mask: Array
    crowd: Array
    difficult: Array
    mask: Array
    partners: Any = None
    extent: Any = None
    placement: Any = None
    size: Any = None
    masks: Any = None
    area: Any = None
    keypoints: Any = None
    index: Any = None


IGNORED = 255
"""The label of pixels that do not count."""


@flax.struct.dataclass
class SegmentationBatch:
    """Images with a class for each pixel.

    Attributes:
      image: [B, H, W, C], as in `ClassificationBatch`.
      labels: int[B, H, W], `IGNORED` where a pixel does not count.
      mask: bool[B], False for filler images.
      partners, extent: as in `ClassificationBatch`.
      placement, size: as in `DetectionBatch`.
    """

    image: Array
    labels: Array
    mask: Array
    partners: Any = None
    extent: Any = None
    placement: Any = None
    size: Any = None


@flax.struct.dataclass
class LandmarkBatch:
    """Images with named points.

    Attributes:
      image: [B, H, W, C], as in `ClassificationBatch`.
      points: f32[B, K, 2], xy, pixels of the network input; a pixel's left edge is x, its right
        edge x + 1.
      visible: bool[B, K], False for landmarks that are absent, whose points mean nothing.
      mask: bool[B], False for filler images.
      partners, extent: as in `ClassificationBatch`.
      placement, size: as in `DetectionBatch`.
    """

    image: Array
    points: Array
    visible: Array
    mask: Array
    partners: Any = None
    extent: Any = None
    placement: Any = None
    size: Any = None


@flax.struct.dataclass
class RestorationBatch:
    """Squares of photographs, to be spoilt and restored.

    Attributes:
      image: [B, H, W, 3]. uint8 from the host, unspoilt; after `prepare` float32, what the network
        gets: spoilt, of H / n rows for a network that enlarges n times, of one channel or three.
      seed: u32[B], of the noise.
      photograph: i32[B], the number of the photograph, for the means over photographs.
      origin: i32[B, 2], (row, column) of the square's corner in it, perhaps beyond its border.
      size: i32[B, 2], (height, width) of the photograph.
      mask: bool[B], False for filler images.
      target: f32[B, H, W, C], the unspoilt image after `prepare`, else None.
      partners, extent: as in `ClassificationBatch`.
    """

    image: Array
    seed: Array
    photograph: Array
    origin: Array
    size: Array
    mask: Array
    target: Any = None
    partners: Any = None
    extent: Any = None


@flax.struct.dataclass
class ImageBatch:
    """Images of which nothing else is known, as prediction has them.

    Attributes:
      image: [B, H, W, C], as in `ClassificationBatch`.
      mask: bool[B], False for filler images.
      extent: as in `ClassificationBatch`.
      placement: as in `DetectionBatch`.
      size: as in `DetectionBatch`.
    """

    image: Array
    mask: Array
    extent: Any = None
    placement: Any = None
    size: Any = None


def extent_of(example: Any) -> Array:
    """(height, width) of an example's image without its padding, pixels of the network's input.

    Args:
      example: a batch struct without its leading axis.
    Returns:
      i32[2]: `example.extent`, or the size of the image where there is none.
    """
    if getattr(example, "extent", None) is not None:
        return example.extent
    return jnp.array(example.image.shape[:2], jnp.int32)


@flax.struct.dataclass
class Detections:
    """What a detector found, padded to a fixed number.

    Attributes:
      boxes: f32[..., N, 4], xyxy, pixels of the network input.
      scores: f32[..., N], in falling order.
      labels: i32[..., N].
      valid: bool[..., N], False for padding.
      masks: of each object, or None.
      keypoints: f32[..., N, K, 3] of each object, (x, y, score), or None.
    """

    boxes: Array
    scores: Array
    labels: Array
    valid: Array
    masks: Any = None
    keypoints: Any = None
