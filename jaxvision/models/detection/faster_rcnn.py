"""Faster R-CNN (Ren, He, Girshick & Sun 2015, "Faster R-CNN: Towards real-time object detection
with region proposal networks"), on a feature pyramid (Lin et al. 2017, "Feature pyramid networks
for object detection") or on one map; Fast R-CNN (Girshick 2015), whose proposals are given; and
Mask R-CNN (He, Gkioxari, Dollár & Girshick 2017)."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxvision.core import InputError, check_choice
from jaxvision.layers import Norm, batch_norm, dtypes_of, frozen_batch_norm
from jaxvision.models.backbones.mobilenet_v3 import MOBILENETS_V3
from jaxvision.models.backbones.resnet import RESNETS
from jaxvision.models.backbones.vgg import VGGS
from jaxvision.models.detection.parts import TowerHead, backbone_maps, by_anchor, pyramid_maps
from jaxvision.models.detection.rcnn_heads import (
    ConvHead,
    KeypointHead,
    MaskHead,
    MLPHead,
    StageHead,
)
from jaxvision.ops import (
    generate_proposals,
    map_strides,
    multilevel_roi_align,
    postprocess_detections,
    roi_pool,
    rpn_anchors,
)

POOLINGS = ("roi_align", "roi_pool")
"""Values of the field `pooling` of `FasterRCNN`."""


class RPNOutputs(NamedTuple):
    """What a region proposal network predicts, as the function `propose` gets it.

    Attributes:
      objectness: for each map f[B, N], logits.
      deltas: for each map f[B, N, 4], see `jaxvision.ops.decode_boxes`.
      anchors: for each map f32[N, 4], xyxy, pixels.
      image_size: (height, width) of the images with their padding, pixels.
    """

    objectness: list[Array]
    deltas: list[Array]
    anchors: list[Array]
    image_size: tuple[int, int]


Propose = Callable[[RPNOutputs], Mapping[str, Array]]
Detect = Callable[[Array, Array, Mapping[str, Array], tuple[int, int]], Mapping[str, Array]]


def propose_all(
    rpn: RPNOutputs, *, extent: Array | None = None, **options: Any
) -> dict[str, Array]:
    """The function `propose` for inference: the proposals of each image.

    Args:
      rpn: what the region proposal network predicts.
      extent: i32[B, 2], (height, width) of each image without its padding; None: no padding.
      **options: see `jaxvision.ops.generate_proposals`.
    Returns:
      {"proposals": f[B, R, 4], "proposal_scores": f[B, R], "proposal_mask": bool[B, R]}.
    """
    extent = _extent_of(len(rpn.objectness[0]), rpn.image_size) if extent is None else extent
    one = partial(generate_proposals, **options)
    found = jax.vmap(one, (0, 0, None, 0))(rpn.objectness, rpn.deltas, rpn.anchors, extent)
    return dict(zip(("proposals", "proposal_scores", "proposal_mask"), found, strict=True))


def propose_image(rpn: RPNOutputs, *, count: int) -> dict[str, Array]:
    """The function `propose` for inference without an RPN or proposals: the whole image.

    Args:
      rpn: of which the size of the images is used.
      count: B, the number of images.
    Returns:
      {"proposals": f[B, 1, 4], "proposal_mask": bool[B, 1]}.
    """
    height, width = rpn.image_size
    whole = jnp.array([0, 0, width, height], jnp.float32)
    return {
        "proposals": jnp.broadcast_to(whole[None, None], (count, 1, 4)),
        "proposal_mask": jnp.ones((count, 1), bool),
    }


def detect_all(
    class_logits: Array,
    box_regression: Array,
    proposals: Mapping[str, Array],
    image_size: tuple[int, int],
    *,
    extent: Array | None = None,
    **options: Any,
) -> dict[str, Array]:
    """The function `detect` for inference: the detections of each image.

    Args:
      class_logits: f[B, R, K + 1].
      box_regression: f[B, R, K + 1, 4] or f[B, R, 4].
      proposals: what `propose` returned, with "proposals" and "proposal_mask".
      image_size: (height, width) of the images with their padding, pixels.
      extent: i32[B, 2], (height, width) of each image without its padding; None: no padding.
      **options: see `jaxvision.ops.postprocess_detections`.
    Returns:
      {"boxes": f[B, D, 4], "scores": f[B, D], "labels": i32[B, D], "valid": bool[B, D]}.
    """
    extent = _extent_of(len(class_logits), image_size) if extent is None else extent
    one = partial(postprocess_detections, **options)
    regions = proposals["proposals"], proposals["proposal_mask"]
    found = jax.vmap(one)(class_logits, box_regression, *regions, extent)
    return dict(zip(("boxes", "scores", "labels", "valid"), found, strict=True))


def _extent_of(count: int, image_size: tuple[int, int]) -> Array:
    return jnp.broadcast_to(jnp.array(image_size, jnp.int32)[None], (count, 2))


class FasterRCNN(nn.Module):
    """Faster R-CNN, either stage alone, and with further heads Mask R-CNN.

    The network has two stages. A region proposal network (RPN) predicts for each anchor whether
    there is an object, and its box. The function `propose` selects the boxes for the second stage,
    which computes features of each and, of these, its class and a better box. Of the boxes that the
    function `detect` selects the network computes masks and keypoints, if it has these heads. Both
    functions are arguments of a call. Those for training use the ground truth; see
    `jaxvision.tasks.detectors.faster_rcnn`.

    Layers have torchvision's names, such as rpn_head_cls_logits and roi_heads_box_head_fc6. Weights
    of a classifier initialise the module "backbone_body", or "backbone" without a pyramid. As for
    RetinaNet, the networks of the table whose torchvision weights have frozen norms have them too.

    Attributes:
      backbone: builds the module "backbone_body".
      levels: names of its maps that are used, from fine to coarse.
      features: channels of the pyramid; None: no pyramid, but one map of the backbone.
      head_norm: norm in the pyramid and in the heads for boxes and masks; None gives convolutions
        with a bias. The RPN, `MLPHead` and `KeypointHead` have no norm.
      anchor_sizes: for each map of the pyramid, with the extra one that is half as large as the
        last, the scales of its anchors, pixels. None: no RPN but proposals that are given, as for
        Fast R-CNN, and no extra map.
      aspect_ratios: height / width of the anchors.
      rounded_anchors: whether anchors are rounded to whole pixels, as in torchvision.
      rpn_depth: number of 3x3 convolutions of the RPN.
      pooling: features of a box: "roi_align", or "roi_pool", which takes one map only.
      box_size: side of the features of a box, in bins.
      sampling_ratio: samples along each side of a bin, see `jaxvision.ops.roi_align`.
      aligned: likewise. Torchvision's weights need False.
      box_head: builds the module "roi_heads_box_head"; None: the RPN alone.
      class_agnostic: whether all classes share one box.
      mask_head: builds the module "roi_heads_mask" of a number of outputs; None: no masks.
      keypoint_head: builds the module "roi_heads_keypoint"; None: no keypoints.
      region_size: side of the features of a box for masks and keypoints, in bins.
      num_classes: K, without the background. Torchvision's weights have 90.

    Call:
      images f32[B, H, W, 3], and `propose` and `detect`; None: as for inference with torchvision's
      options, or without an RPN with the whole image as its only proposal. With an RPN it returns,
      for each map i, {"objectness{i}": [B, h, w, A], "rpn_deltas{i}": [B, h, w, A, 4]}, and always
      what `propose` returns. `propose` takes `RPNOutputs`, without maps if there is no RPN, and
      returns arrays by name, of which "proposals" f[B, R, 4] are needed here. With a box head also:
      "class_logits" [B, R, K + 1], where class 0 is the background, "box_regression"
      [B, R, K + 1, 4], or [B, R, 4] if `class_agnostic`, and what `detect` returns: arrays by name,
      with "boxes" f[B, D, 4] where there are further heads. `detect` takes the last two, what
      `propose` returned, and the size of the images. With these heads also: "mask_logits"
      [B, D, 28, 28, K] and "keypoint_logits" [B, D, 56, 56, number of keypoints].

    Raises:
      InputError: the backbone lacks a map of `levels`, there is another number of anchor sizes than
        maps, or `pooling` is "roi_pool" on several maps.
    """

    backbone: Callable[..., nn.Module] = RESNETS["resnet50"]
    levels: tuple[str, ...] = ("c2", "c3", "c4", "c5")
    features: int | None = 256
    head_norm: Norm | None = None
    anchor_sizes: tuple[tuple[float, ...], ...] | None = ((32,), (64,), (128,), (256,), (512,))
    aspect_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    rounded_anchors: bool = True
    rpn_depth: int = 1
    pooling: str = "roi_align"
    box_size: int = 7
    sampling_ratio: int = 2
    aligned: bool = False
    box_head: Callable[..., nn.Module] | None = MLPHead
    class_agnostic: bool = False
    mask_head: Callable[..., nn.Module] | None = None
    keypoint_head: Callable[..., nn.Module] | None = None
    region_size: int = 14
    num_classes: int = 90
    remat: bool = False
    norm: Norm | None = batch_norm
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def anchors(
        self, image_size: tuple[int, int], feature_sizes: Sequence[tuple[int, int]]
    ) -> list[Array]:
        """The anchors of each map.

        Args:
          image_size: (height, width) of the images with their padding, pixels.
          feature_sizes: (rows, columns) of each map.
        Returns:
          f32[rows columns A, 4] for each map, xyxy, pixels.
        """
        if len(feature_sizes) != len(self.anchor_sizes):
            raise InputError(
                f"anchor_sizes has {len(self.anchor_sizes)} entries, and there are "
                f"{len(feature_sizes)} maps: give one for each"
            )
        strides = map_strides(image_size, feature_sizes)
        how = {"aspect_ratios": self.aspect_ratios, "rounded": self.rounded_anchors}
        return [
            rpn_anchors([of_map], strides=[stride], scales=[scales], **how)
            for of_map, stride, scales in zip(
                feature_sizes, strides, self.anchor_sizes, strict=True
            )
        ]

    @nn.compact
    def __call__(
        self,
        images: Array,
        *,
        train: bool,
        propose: Propose | None = None,
        detect: Detect | None = None,
    ) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        check_choice("pooling", self.pooling, POOLINGS)
        image_size = images.shape[1:3]
        maps, pooled = self._maps(images, train=train)
        if self.anchor_sizes is None:
            outputs, rpn = {}, RPNOutputs([], [], [], image_size)
            default = partial(propose_image, count=len(images))
        else:
            outputs, rpn = self._rpn(maps, image_size, train=train)
            default = propose_all
        regions = (default if propose is None else propose)(rpn)
        outputs |= regions
        if self.box_head is None:
            return outputs
        x = self._features(pooled, regions["proposals"], image_size, self.box_size)
        x = self._head(self.box_head, "roi_heads_box_head", x, train=train)
        dense = partial(nn.Dense, **dtypes_of(self))
        classes = self.num_classes + 1
        scores = dense(
            classes,
            kernel_init=nn.initializers.normal(0.01),
            name="roi_heads_box_predictor_cls_score",
        )(x)
        deltas = dense(
            4 if self.class_agnostic else 4 * classes,
            kernel_init=nn.initializers.normal(0.001),
            name="roi_heads_box_predictor_bbox_pred",
        )(x)
        if not self.class_agnostic:
            deltas = deltas.reshape(*deltas.shape[:-1], classes, 4)
        outputs |= {"class_logits": scores, "box_regression": deltas}
        found = (detect_all if detect is None else detect)(scores, deltas, regions, image_size)
        outputs |= found
        if self.mask_head is None and self.keypoint_head is None:
            return outputs
        x = self._features(pooled, found["boxes"], image_size, self.region_size)
        if self.mask_head is not None:
            head = partial(self.mask_head, classes)
            masks = self._head(head, "roi_heads_mask", x, train=train)
            outputs["mask_logits"] = masks[..., 1:]
        if self.keypoint_head is not None:
            points = self._head(self.keypoint_head, "roi_heads_keypoint", x, train=train)
            outputs["keypoint_logits"] = points
        return outputs

    def _maps(self, images: Array, *, train: bool) -> tuple[list[Array], list[Array]]:
        """The maps of the RPN, and those of which boxes are pooled."""
        if self.features is None:
            maps = backbone_maps(self, images, train=train)
            return maps, maps
        maps = pyramid_maps(self, images, train=train, extra="pool", norm=self.head_norm)
        return maps, maps[:-1]

    def _rpn(
        self, maps: Sequence[Array], image_size: tuple[int, int], *, train: bool
    ) -> tuple[dict[str, Array], RPNOutputs]:
        """The outputs of the RPN by name, and as `propose` gets them."""
        count = len(self.aspect_ratios) * len(self.anchor_sizes[0])
        if any(len(sizes) != len(self.anchor_sizes[0]) for sizes in self.anchor_sizes):
            raise InputError(
                f"anchor_sizes is {self.anchor_sizes}: give as many sizes for each map, as all "
                "maps share the layers of the RPN"
            )
        head = TowerHead(
            [("cls_logits", count, 0.0), ("bbox_pred", 4 * count, 0.0)],
            depth=self.rpn_depth,
            output_kernel=1,
            remat=self.remat,
            name="rpn_head",
            **dtypes_of(self),
        )
        outputs, objectness, deltas = {}, [], []
        for number, x in enumerate(maps):
            found = head(x, train=train)
            logits, of_map = found["cls_logits"], by_anchor(found["bbox_pred"], count)
            outputs |= {f"objectness{number}": logits, f"rpn_deltas{number}": of_map}
            objectness.append(logits.reshape(len(x), -1))
            deltas.append(of_map.reshape(len(x), -1, 4))
        anchors = self.anchors(image_size, [x.shape[1:3] for x in maps])
        return outputs, RPNOutputs(objectness, deltas, anchors, image_size)

    def _features(
        self, maps: Sequence[Array], boxes: Array, image_size: tuple[int, int], bins: int
    ) -> Array:
        """The features of boxes [B, R, 4]: [B, R, bins, bins, C]."""
        # As torchvision: the scale is a power of 2.
        levels = [round(math.log2(image_size[0] / x.shape[1])) for x in maps]
        # Of maps of the same size only the first is used.
        maps = maps[: levels[-1] - levels[0] + 1]
        scales = [2.0**-level for level in levels[: len(maps)]]
        if self.pooling == "roi_align":
            how = {"sampling_ratio": self.sampling_ratio, "aligned": self.aligned}
            pool = partial(multilevel_roi_align, output_size=bins, spatial_scales=scales, **how)
            return jax.vmap(pool)(maps, boxes)
        if len(maps) > 1:
            raise InputError(
                f"pooling is 'roi_pool', which takes one map, but there are {len(maps)}: choose "
                "'roi_align' or one level"
            )
        pool = partial(roi_pool, output_size=bins, spatial_scale=scales[0])
        return jax.vmap(pool)(maps[0], boxes)

    def _head(self, build: Callable[..., nn.Module], name: str, x: Array, *, train: bool) -> Array:
        """Applies a head to the features of all boxes: [B, R, ...] -> [B, R, ...]."""
        fields = {"remat": self.remat, "norm": self.head_norm, "axis_name": self.axis_name}
        fields |= dtypes_of(self)
        known = inspect.signature(build).parameters
        head = build(name=name, **{key: x for key, x in fields.items() if key in known})
        found = head(x.reshape(-1, *x.shape[2:]), train=train)
        return found.reshape(*x.shape[:2], *found.shape[1:])


_FROZEN = partial(frozen_batch_norm, epsilon=0.0)
_V2 = {"head_norm": batch_norm, "rpn_depth": 2, "box_head": ConvHead}
_MOBILENET = {
    "backbone": partial(MOBILENETS_V3["mobilenet_v3_large"], layout="fpn"),
    "levels": ("c5", "c6"),
    "anchor_sizes": ((32, 64, 128, 256, 512),) * 3,
    "norm": frozen_batch_norm,
}
_ONE_MAP = {"features": None, "levels": ("c4",), "anchor_sizes": ((128, 256, 512),)}
_OF_VGG = {
    "backbone": VGGS["vgg16"],
    "pooling": "roi_pool",
    "box_head": partial(MLPHead, hidden=4096, dropout=0.5),
    "norm": None,
}

FASTER_RCNNS = {
    "faster_rcnn": FasterRCNN,
    "fasterrcnn_resnet50_fpn": partial(FasterRCNN, norm=_FROZEN),
    "fasterrcnn_resnet50_fpn_v2": partial(FasterRCNN, **_V2),
    "fasterrcnn_mobilenet_v3_large_fpn": partial(FasterRCNN, **_MOBILENET),
    "fasterrcnn_mobilenet_v3_large_320_fpn": partial(FasterRCNN, **_MOBILENET),
    "fasterrcnn_vgg16": partial(FasterRCNN, **_OF_VGG, **_ONE_MAP),
    "fasterrcnn_resnet50_c4": partial(
        FasterRCNN,
        backbone=partial(RESNETS["resnet50"], parts=(0, 3)),
        box_size=14,
        box_head=StageHead,
        head_norm=frozen_batch_norm,
        norm=frozen_batch_norm,
        **_ONE_MAP,
    ),
}
"""Networks that detect objects in two stages."""

FAST_RCNNS = {
    "fast_rcnn": partial(FasterRCNN, anchor_sizes=None),
    "fastrcnn_vgg16": partial(FasterRCNN, **{**_ONE_MAP, **_OF_VGG, "anchor_sizes": None}),
    "fastrcnn_resnet50_fpn": partial(FasterRCNN, anchor_sizes=None, norm=_FROZEN),
}
"""Networks that detect objects in given proposals."""

RPNS = {"rpn_resnet50_fpn": partial(FasterRCNN, box_head=None, norm=_FROZEN)}
"""Region proposal networks."""

MASK_RCNNS = {
    "mask_rcnn": partial(FasterRCNN, mask_head=MaskHead),
    "maskrcnn_resnet50_fpn": partial(FasterRCNN, mask_head=MaskHead, norm=_FROZEN),
    "maskrcnn_resnet50_fpn_v2": partial(FasterRCNN, mask_head=MaskHead, **_V2),
}
"""Networks that find a mask of each object as well."""

KEYPOINT_RCNNS = {
    "keypoint_rcnn": partial(FasterRCNN, keypoint_head=KeypointHead, num_classes=1),
    "keypointrcnn_resnet50_fpn": partial(
        FasterRCNN, keypoint_head=KeypointHead, num_classes=1, norm=_FROZEN
    ),
}
"""Networks that find keypoints of each object as well."""
