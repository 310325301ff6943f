"""The batch structs of the library.

The same struct holds a batch and, without the leading B axis, one example of it: under `jax.vmap` a
loss gets the example. Annotations of varying length are padded once, on the host, and always come
with a mask.

Each field declares its kind with `annotation`, because its name is not enough: `labels` are classes
of boxes in one struct and classes of pixels in another. Augmentations use the kinds.
"""

import dataclasses
from typing import Any

import flax.struct
import jax.numpy as jnp
from jax import Array

from jaxvision.core.errors import InputError
from jaxvision.core.registry import lookup

KINDS = {
    "image": "[H, W, C]: an image; geometric and colour augmentations change it",
    "boxes": "f[N, 4]: boxes, xyxy, pixels of the image",
    "box_mask": "bool[N]: True for boxes, False for padding",
    "proposals": "f[P, 4]: boxes that may have objects, xyxy, pixels of the image",
    "proposal_mask": "bool[P]: True for proposals, False for padding",
    "masks": "int[N, M, M]: the share of each cell that each box's object covers, in 0..255",
    "mask_frames": "f[N, 4]: the rectangles that the cells of masks cover, as boxes",
    "keypoints": "f[N, K, 3]: (x, y, visibility) of each box's object, pixels of the image",
    "pixels": "int[H, W]: a label for each pixel",
    "points": "f[K, 2]: points, xy, pixels of the image",
    "visible": "bool[K]: True for points that are present",
    "placement": "a property of the original image; a geometric augmentation sets it to None",
    "extent": "i32[2]: (height, width) of the image without its padding",
    "fixed": "a value that no augmentation of a single example changes, such as a class",
}
"""The kinds of annotations of one example, with a description of each."""


def annotation(kind: str, **options: Any) -> Any:
    """Returns a field of a batch struct (a `flax.struct.dataclass`) with a kind of annotation.

    Args:
      kind: one of `KINDS`.
      options: options of `dataclasses.field`, such as `default`.
    Raises:
      InputError: kind is unknown.
    """
    lookup(KINDS, kind, "kind of annotation")
    return flax.struct.field(metadata={"annotation": kind}, **options)


def annotations_of(example: Any) -> dict[str, str]:
    """Returns the kind of annotation of each field of a batch struct.

    Args:
      example: a batch struct, its class, or an example of it.
    Returns:
      name of the field -> its kind, in the order of the fields.
    Raises:
      InputError: example is not a dataclass, or a field declares no kind.
    """
    name = (example if isinstance(example, type) else type(example)).__name__
    if not dataclasses.is_dataclass(example):
        raise InputError(f"{name} is not a batch struct: give a flax.struct.dataclass")
    kinds = {field.name: field.metadata.get("annotation") for field in dataclasses.fields(example)}
    for field, kind in kinds.items():
        if kind is None:
            raise InputError(
                f"the field {field} of {name} declares no kind: write "
                f"{field}: Array = core.annotation('fixed'), or another kind of "
                f"{', '.join(KINDS)}"
            )
    return kinds


@flax.struct.dataclass
class ClassificationBatch:
    """Images with one class for each.

    Attributes:
      image: [B, H, W, C], RGB or grey. uint8 from the host; float32, normalised, after `prepare`.
      label: i32[B], or f32[B, num_classes] for soft targets.
      weight: f32[B], weight of each example in the loss.
      mask: bool[B], False for filler images, which fill up a batch and never count.
      partners: P further examples for each example ([B, P, ...]), for augmentations that combine
        several examples, or None.
      extent: i32[B, 2], (height, width) of the image without the padding at its bottom and right,
        in pixels of the network's input; None: the whole image. Geometric augmentations take it for
        the whole image: their results have no content beyond their extent.
    """

    image: Array = annotation("image")
    label: Array = annotation("fixed")
    weight: Array = annotation("fixed")
    mask: Array = annotation("fixed")
    partners: Any = annotation("fixed", default=None)
    extent: Any = annotation("extent", default=None)


@flax.struct.dataclass
class DetectionBatch:
    """Images with boxes.

    Attributes:
      image: [B, H, W, C], as in `ClassificationBatch`.
      boxes: f32[B, N, 4], xyxy, pixels of the network input.
      labels: i32[B, N], class of each box.
      box_mask: bool[B, N], False for padding.
      crowd: bool[B, N], True for a region of many objects (COCO).
      difficult: bool[B, N], True for objects that evaluation ignores (VOC).
      mask: bool[B], False for filler images.
      partners, extent: as in `ClassificationBatch`.
      placement: f32[B, 4], position of the original image in the network's input, as (scale_x,
        scale_y, offset_x, offset_y) with x = scale_x x_original + offset_x; or None, as after a
        geometric augmentation.
      size: i32[B, 2], (height, width) of the original image, or None, as `placement`.
      masks: u8[B, N, M, M], the share of each of M x M cells that the object covers, in 0..255, or
        None; see `jaxvision.ops.paint_masks`.
      mask_frames: f32[B, N, 4], xyxy, pixels of the network's input: the rectangle that the cells
        of each mask cover, or None. Unlike boxes, frames are not clipped to the image; zeros for
        padding and for empty masks.
      area: f32[B, N], area of each object in square pixels of the original image, by which COCO
        groups objects, or None. It is used in evaluation only, and None after a geometric
        augmentation.
      keypoints: f32[B, N, K, 3] for each object, (x, y) in pixels of the network's input and
        visibility (0 absent, 1 hidden, 2 visible), or None.
      index: i32[B], index of the record in its source, or None.
      proposals: f32[B, P, 4], xyxy, pixels of the network's input: regions that may have objects,
        for detectors that do not propose them, or None.
      proposal_mask: bool[B, P], False for padding, or None.
      labels_only: bool[B], True for images whose objects have labels but no boxes: the box of each
        is the whole image; None: all objects have boxes. Only some detectors are trained on such
        images.
    """

    image: Array = annotation("image")
    boxes: Array = annotation("boxes")
    labels: Array = annotation("fixed")
    box_mask: Array = annotation("box_mask")
    crowd: Array = annotation("fixed")
    difficult: Array = annotation("fixed")
    mask: Array = annotation("fixed")
    partners: Any = annotation("fixed", default=None)
    extent: Any = annotation("extent", default=None)
    placement: Any = annotation("placement", default=None)
    size: Any = annotation("placement", default=None)
    masks: Any = annotation("masks", default=None)
    mask_frames: Any = annotation("mask_frames", default=None)
    area: Any = annotation("placement", default=None)
    keypoints: Any = annotation("keypoints", default=None)
    index: Any = annotation("fixed", default=None)
    proposals: Any = annotation("proposals", default=None)
    proposal_mask: Any = annotation("proposal_mask", default=None)
    labels_only: Any = annotation("fixed", default=None)


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

    image: Array = annotation("image")
    labels: Array = annotation("pixels")
    mask: Array = annotation("fixed")
    partners: Any = annotation("fixed", default=None)
    extent: Any = annotation("extent", default=None)
    placement: Any = annotation("placement", default=None)
    size: Any = annotation("placement", default=None)


@flax.struct.dataclass
class LandmarkBatch:
    """Images with named points.

    Attributes:
      image: [B, H, W, C], as in `ClassificationBatch`.
      points: f32[B, K, 2], xy, pixels of the network input; a pixel's left edge is x, its right
        edge x + 1.
      visible: bool[B, K], False for absent landmarks, whose points have no meaning.
      mask: bool[B], False for filler images.
      partners, extent: as in `ClassificationBatch`.
      placement, size: as in `DetectionBatch`.
    """

    image: Array = annotation("image")
    points: Array = annotation("points")
    visible: Array = annotation("visible")
    mask: Array = annotation("fixed")
    partners: Any = annotation("fixed", default=None)
    extent: Any = annotation("extent", default=None)
    placement: Any = annotation("placement", default=None)
    size: Any = annotation("placement", default=None)


@flax.struct.dataclass
class RestorationBatch:
    """Square crops of images to degrade and restore.

    Attributes:
      image: [B, H, W, 3], the original, uint8 from the host. After `prepare` it is the float32
        input of the network: degraded, with one or three channels, and with H / n rows for a
        network that enlarges n times.
      seed: u32[B], seed of the noise.
      photograph: i32[B], index of the image that was cropped, for means over images.
      origin: i32[B, 2], (row, column) of the crop's corner in the image, which may be outside the
        image; None after a geometric augmentation.
      size: i32[B, 2], (height, width) of the image that was cropped; None after a geometric
        augmentation.
      mask: bool[B], False for filler images.
      target: f32[B, H, W, C], the original image; None before `prepare`.
      partners, extent: as in `ClassificationBatch`.
      grey: bool[B], True for images without colours, whose three channels are the same; None: all
        have colours.
    """

    image: Array = annotation("image")
    seed: Array = annotation("fixed")
    photograph: Array = annotation("fixed")
    origin: Array = annotation("placement")
    size: Array = annotation("placement")
    mask: Array = annotation("fixed")
    target: Any = annotation("image", default=None)
    partners: Any = annotation("fixed", default=None)
    extent: Any = annotation("extent", default=None)
    grey: Any = annotation("fixed", default=None)


@flax.struct.dataclass
class ImageBatch:
    """Images without annotations, for prediction.

    Attributes:
      image: [B, H, W, C], as in `ClassificationBatch`.
      mask: bool[B], False for filler images.
      extent: as in `ClassificationBatch`.
      placement: as in `DetectionBatch`.
      size: as in `DetectionBatch`.
    """

    image: Array = annotation("image")
    mask: Array = annotation("fixed")
    extent: Any = annotation("extent", default=None)
    placement: Any = annotation("placement", default=None)
    size: Any = annotation("placement", default=None)


def extent_of(example: Any) -> Array:
    """Returns the (height, width) of an example's image without its padding.

    Args:
      example: a batch struct without its leading axis.
    Returns:
      i32[2], pixels of the network's input: `example.extent`, or the size of the image if the
      example has no extent.
    """
    if getattr(example, "extent", None) is not None:
        return example.extent
    return jnp.array(example.image.shape[:2], jnp.int32)


@flax.struct.dataclass
class Detections:
    """The detections of a detector, padded to a fixed number.

    Attributes:
      boxes: f32[..., N, 4], xyxy, pixels of the network input.
      scores: f32[..., N], in descending order.
      labels: i32[..., N].
      valid: bool[..., N], False for padding.
      masks: f32[..., N, M, M], for each detection the probabilities, in 0..1, of its class in M x M
        cells that cover its box, or None; `jaxvision.ops.paste_masks` puts them into the image.
      keypoints: f32[..., N, K, 3] for each object, (x, y, score), or None.
    """

    boxes: Array
    scores: Array
    labels: Array
    valid: Array
    masks: Any = None
    keypoints: Any = None
