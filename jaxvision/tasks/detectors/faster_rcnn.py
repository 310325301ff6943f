"""Faster R-CNN as a detector: how its proposals are sampled, its losses and its detections."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxvision.core import (
    DetectionBatch,
    Detections,
    Keys,
    OptionError,
    Terms,
    at_least_float32,
    check_range,
    extent_of,
    merge,
)
from jaxvision.losses import faster_rcnn_loss, keypoint_rcnn_loss, mask_rcnn_loss, rpn_loss
from jaxvision.metrics import COCO_KEYPOINT_SIGMAS
from jaxvision.metrics.coco import MAX_DETECTIONS
from jaxvision.models.detection.faster_rcnn import (
    Detect,
    FasterRCNN,
    RPNOutputs,
    detect_all,
    propose_all,
)
from jaxvision.ops import heatmaps_to_keypoints, sample_proposals
from jaxvision.tasks.building import as_terms, maps_of_image
from jaxvision.tasks.decoding import DetectOptions
from jaxvision.tasks.detectors.detector import Detector
from jaxvision.tasks.detectors.parts import (
    PROBE,
    Loss,
    checked_loss,
    described_detector,
    outputs_of_maps,
    rows,
)

FASTER_RCNN_DECODE = DetectOptions(
    score_threshold=0.05, iou_threshold=0.5, max_detections=100, max_candidates=20_000
)
"""Torchvision's options of decoding. A proposal has at most 19 classes of a score above 0.05, so of
1,000 proposals all these pairs are candidates."""


def faster_rcnn(
    model: nn.Module,
    *,
    rpn_pre_nms_top_n_train: int = 2000,
    rpn_pre_nms_top_n_test: int = 1000,
    rpn_post_nms_top_n_train: int = 2000,
    rpn_post_nms_top_n_test: int = 1000,
    rpn_nms_thresh: float = 0.7,
    rpn_score_thresh: float = 0.0,
    box_fg_iou_thresh: float = 0.5,
    box_batch_size_per_image: int = 512,
    box_positive_fraction: float = 0.25,
    keypoint_sigmas: Sequence[float] = COCO_KEYPOINT_SIGMAS,
    trainable_backbone_layers: int | None = None,
    loss: Loss | None = faster_rcnn_loss,
    mask_loss: Loss = mask_rcnn_loss,
    mask_sampling_ratio: int = -1,
    keypoint_loss: Loss = keypoint_rcnn_loss,
    decode: DetectOptions = FASTER_RCNN_DECODE,
    **options: Any,
) -> Detector:
    """Faster R-CNN: regions from a region proposal network (RPN), classified in a second stage.

    With a network that has these heads it is Mask R-CNN and Keypoint R-CNN: masks and keypoints are
    computed of the detections.

    All stages are trained jointly. In training, the second stage sees a random sample of the
    proposals and of the objects' own boxes, and the further heads those of them that have an
    object. The defaults and the names of options are torchvision's
    for ResNets; its MobileNets have an `rpn_score_thresh` of 0.05, and the one for 320 pixels has
    150 for both `..._test`.

    Args:
      model: a network like `jaxvision.models.create_model("fasterrcnn_resnet50_fpn")`.
      rpn_pre_nms_top_n_train: boxes of each map that enter the suppression, in training.
      rpn_pre_nms_top_n_test: the same in evaluation.
      rpn_post_nms_top_n_train: most proposals of an image, in training.
      rpn_post_nms_top_n_test: the same in evaluation.
      rpn_nms_thresh: a box is suppressed if its IoU with a better one of its map is above this.
      rpn_score_thresh: least score of a proposal.
      box_fg_iou_thresh: least IoU of a proposal with the object that it is trained to find.
      box_batch_size_per_image: proposals of an image in the sample.
      box_positive_fraction: the largest fraction of them that have an object.
      keypoint_sigmas: of the keypoints' average precision, one for each keypoint, if the network
        finds them; the default is that of COCO's 17.
      trainable_backbone_layers: last stages of the backbone that are trained, 3 of the 5 of a
        ResNet where torchvision fine-tunes; None: all.
      loss: with the signature of `jaxvision.losses.faster_rcnn_loss`; None: for evaluation only.
      mask_loss: with the signature of `jaxvision.losses.mask_rcnn_loss`, if the network finds
        masks.
      mask_sampling_ratio: samples along each side of a bin of the masks that are trained, see
        `jaxvision.losses.mask_targets`; -1: as many as the bin has pixels, as in torchvision.
      keypoint_loss: with the signature of `jaxvision.losses.keypoint_rcnn_loss`, if it finds
        keypoints.
      decode: which candidates become detections.
      **options: keyword arguments of the loss, such as box_beta=1.0.
    Raises:
      OptionError: an option is out of range, an option that the loss does not have, or a network of
        another form.
    Source: Ren et al. 2015 ("Faster R-CNN"), section 3.2; He et al. 2017 ("Mask R-CNN").
    """
    _check_network(model, second_stage=True)
    proposing = _proposing(
        rpn_pre_nms_top_n_train,
        rpn_pre_nms_top_n_test,
        rpn_post_nms_top_n_train,
        rpn_post_nms_top_n_test,
        rpn_nms_thresh,
        rpn_score_thresh,
    )
    sampling = sampling_of(box_batch_size_per_image, box_positive_fraction, box_fg_iou_thresh)
    maps = maps_of_image(model, (PROBE, PROBE, 3))
    example_loss = checked_loss(loss, 10, {}, options)
    if "mask_logits" in maps:
        of_masks = checked_loss(mask_loss, 7, {"sampling_ratio": mask_sampling_ratio}, {})
    num_keypoints = None
    if "keypoint_logits" in maps:
        of_keypoints = checked_loss(keypoint_loss, 4, {}, {})
        num_keypoints = maps["keypoint_logits"].shape[-1]
        if len(keypoint_sigmas) != num_keypoints:
            raise OptionError(
                "keypoint_sigmas",
                f"keypoint_sigmas has {len(keypoint_sigmas)} numbers, and the network finds "
                f"{num_keypoints} keypoints: give one for each",
            )

    def between_stages(batch: DetectionBatch, keys: Keys | None) -> dict[str, Any]:
        if keys is None:
            propose = partial(propose_all, extent=jax.vmap(extent_of)(batch), **proposing.test)
            return {"propose": propose, "detect": detect_with(decode, batch)}

        def draw(rpn: RPNOutputs) -> dict[str, Array]:
            found = propose_all(rpn, extent=jax.vmap(extent_of)(batch), **proposing.train)
            return draw_proposals(found, batch, keys, **sampling)

        def detect(
            class_logits: Array,
            box_regression: Array,
            proposals: Mapping[str, Array],
            image_size: tuple[int, int],
        ) -> dict[str, Array]:
            # Further heads are trained on the proposals that have an object, the first ones.
            most = int(sampling["size"] * sampling["positive_fraction"])
            return {"boxes": proposals["proposals"][:, :most]}

        return {"propose": draw, "detect": detect}

    def total(outputs: Any, example: DetectionBatch, *, key: Array, step: Array) -> Terms:
        names = "class_logits", "box_regression", "proposals", "matches"
        second = (outputs[name] for name in names)
        truth = example.boxes, example.labels, example.box_mask
        how = {"key": key, "step": step}
        terms = example_loss(*_first_stage(model, outputs, example), *second, *truth, **how)
        if "mask_logits" in outputs:
            masks = example.labels, example.masks, example.mask_frames, extent_of(example)
            given, sampled = _of_heads(outputs, "mask_logits"), mask_sampling_ratio
            found = of_masks(*given, *masks, sampling_ratio=sampled, **how)
            terms = merge(terms, as_terms(found, "mask"))
        if "keypoint_logits" in outputs:
            given = _of_heads(outputs, "keypoint_logits")
            found = of_keypoints(*given, example.keypoints, **how)
            terms = merge(terms, as_terms(found, "keypoint"))
        return terms

    how = {
        "rpn_pre_nms_top_n_test": rpn_pre_nms_top_n_test,
        "rpn_post_nms_top_n_test": rpn_post_nms_top_n_test,
        "rpn_nms_thresh": rpn_nms_thresh,
        "rpn_score_thresh": rpn_score_thresh,
        **({"keypoint_sigmas": tuple(keypoint_sigmas)} if num_keypoints else {}),
        "decode": decode,
    }
    of_mask_head = {"mask_loss": mask_loss, "mask_sampling_ratio": mask_sampling_ratio}
    of_training = {
        "rpn_pre_nms_top_n_train": rpn_pre_nms_top_n_train,
        "rpn_post_nms_top_n_train": rpn_post_nms_top_n_train,
        "box_fg_iou_thresh": box_fg_iou_thresh,
        "box_batch_size_per_image": box_batch_size_per_image,
        "box_positive_fraction": box_positive_fraction,
        **(of_mask_head if "mask_logits" in maps else {}),
        **({"keypoint_loss": keypoint_loss} if num_keypoints else {}),
    }
    return described_detector(
        "faster_rcnn",
        model,
        loss and total,
        pack_detections,
        how,
        loss_function=loss,
        loss_options={**options, **of_training},
        given=between_stages,
        multiple_of=32,
        num_classes=maps["class_logits"].shape[-1] - 1,
        masks="mask_logits" in maps,
        num_keypoints=num_keypoints,
        keypoint_sigmas=tuple(keypoint_sigmas),
        trainable_backbone_layers=trainable_backbone_layers,
    )


def rpn(
    model: nn.Module,
    *,
    rpn_pre_nms_top_n_test: int = 1000,
    rpn_post_nms_top_n_test: int = 1000,
    rpn_nms_thresh: float = 0.7,
    rpn_score_thresh: float = 0.0,
    trainable_backbone_layers: int | None = None,
    loss: Loss | None = rpn_loss,
    decode: DetectOptions = DetectOptions(),
    **options: Any,
) -> Detector:
    """A region proposal network alone, whose detections are its proposals.

    All objects count as one class: the labels of detections have no meaning, and evaluation leaves
    out the classes. Its figures of merit are the average recalls of so many proposals of an image,
    "AR1", "AR10" and "AR100", and, with `DetectOptions(max_detections=1000)`, "AR1000" as well. The
    last of them may choose the best checkpoint.

    Args:
      model: a network like `jaxvision.models.create_model("rpn_resnet50_fpn")`.
      rpn_pre_nms_top_n_test: boxes of each map that enter the suppression.
      rpn_post_nms_top_n_test: most proposals of an image.
      rpn_nms_thresh: as for `faster_rcnn`.
      rpn_score_thresh: likewise.
      trainable_backbone_layers: likewise.
      loss: with the signature of `jaxvision.losses.rpn_loss`; None: for evaluation only.
      decode: only `max_detections` is used: most detections in an image, the best proposals.
      **options: keyword arguments of the loss, such as size=256.
    Raises:
      OptionError: as for `faster_rcnn`.
    Source: Ren et al. 2015 ("Faster R-CNN"), section 3.1.
    """
    _check_network(model, second_stage=False)
    top_n = rpn_pre_nms_top_n_test, rpn_post_nms_top_n_test
    proposing = _proposing(top_n[0], *top_n, top_n[1], rpn_nms_thresh, rpn_score_thresh)
    maps_of_image(model, (PROBE, PROBE, 3))
    example_loss = checked_loss(loss, 5, {}, options)

    def after_rpn(batch: DetectionBatch, keys: Keys | None) -> dict[str, Any]:
        if keys is not None:
            return {"propose": lambda rpn: {}}
        extent = jax.vmap(extent_of)(batch)
        return {"propose": partial(propose_all, extent=extent, **proposing.test)}

    def total(outputs: Any, example: DetectionBatch, *, key: Array, step: Array) -> Terms:
        first = _first_stage(model, outputs, example)
        return example_loss(*first, example.boxes, example.box_mask, key=key, step=step)

    def pack(outputs: Any, example: DetectionBatch) -> Detections:
        del example
        names = "proposals", "proposal_scores", "proposal_mask"
        boxes, scores, valid = (outputs[name][: decode.max_detections] for name in names)
        return Detections(boxes, scores, jnp.zeros(len(scores), jnp.int32), valid)

    how = {
        "rpn_pre_nms_top_n_test": rpn_pre_nms_top_n_test,
        "rpn_post_nms_top_n_test": rpn_post_nms_top_n_test,
        "rpn_nms_thresh": rpn_nms_thresh,
        "rpn_score_thresh": rpn_score_thresh,
        "decode": decode,
    }
    return described_detector(
        "rpn",
        model,
        loss and total,
        pack,
        how,
        loss_function=loss,
        loss_options=options,
        given=after_rpn,
        multiple_of=32,
        num_classes=None,
        class_agnostic=True,
        recall_detections=max(decode.max_detections, MAX_DETECTIONS[-1]),
        trainable_backbone_layers=trainable_backbone_layers,
    )


def sampling_of(
    box_batch_size_per_image: int, box_positive_fraction: float, box_fg_iou_thresh: float
) -> dict[str, Any]:
    """Keyword arguments of `jaxvision.ops.sample_proposals`, of the options of `faster_rcnn`.

    Raises:
      OptionError: an option is out of range.
    """
    check_range("box_batch_size_per_image", box_batch_size_per_image, least=1)
    check_range("box_positive_fraction", box_positive_fraction, least=0, most=1)
    check_range("box_fg_iou_thresh", box_fg_iou_thresh, least=0, most=1)
    return {
        "size": box_batch_size_per_image,
        "positive_fraction": box_positive_fraction,
        "iou_threshold": box_fg_iou_thresh,
    }


def draw_proposals(
    found: Mapping[str, Array], batch: DetectionBatch, keys: Keys, **sampling: Any
) -> dict[str, Array]:
    """The sample of proposals that the second stage is trained on.

    Args:
      found: "proposals" f[B, P, 4] and "proposal_mask" bool[B, P].
      batch: with the objects.
      keys: of the step of training.
      **sampling: see `sampling_of`.
    Returns:
      {"proposals": f[B, S, 4], "matches": i32[B, S]}, see `jaxvision.ops.sample_proposals`.
    """
    given = found["proposals"], found["proposal_mask"], batch.boxes, batch.box_mask
    drawn = jax.vmap(partial(sample_proposals, **sampling))(keys.example, *given)
    return dict(zip(("proposals", "matches"), drawn, strict=True))


def detect_with(decode: DetectOptions, batch: DetectionBatch) -> Detect:
    """The function `detect` for inference, with some options and the extents of a batch."""
    return partial(
        detect_all,
        extent=jax.vmap(extent_of)(batch),
        score_thresh=decode.score_threshold,
        nms_thresh=decode.iou_threshold,
        detections_per_img=decode.max_detections,
        max_candidates=decode.max_candidates,
    )


def pack_detections(outputs: Any, example: DetectionBatch) -> Detections:
    """The detections of one image that the function `detect` found.

    Args:
      outputs: of the network, see `jaxvision.models.detection.faster_rcnn.FasterRCNN`.
      example: of which the size of the image is used.
    Returns:
      the detections, with the masks f[D, M, M], probabilities inside the boxes, if the network
      finds them, and the keypoints f[D, K, 3], whose third value is the logit at the point.
    """
    boxes, scores, labels, valid = (outputs[x] for x in ("boxes", "scores", "labels", "valid"))
    masks = keypoints = None
    if "mask_logits" in outputs:
        logits = at_least_float32(outputs["mask_logits"])
        of_label = jnp.take_along_axis(logits, labels[:, None, None, None], axis=-1)[..., 0]
        masks = jnp.where(valid[:, None, None], jax.nn.sigmoid(of_label), 0)
    if "keypoint_logits" in outputs:
        points, logits = heatmaps_to_keypoints(
            outputs["keypoint_logits"], boxes, image_size=example.image.shape[:2]
        )
        keypoints = jnp.concatenate([points, logits[..., None]], axis=-1)
        keypoints = jnp.where(valid[:, None, None], keypoints, 0)
    return Detections(boxes, scores, labels, valid, masks, keypoints)


def _of_heads(outputs: Any, name: str) -> tuple[Array, Array, Array]:
    """The logits of a head, its boxes and their matches, in training."""
    count = len(outputs[name])
    return outputs[name], outputs["boxes"], outputs["matches"][:count]


class _Proposing(NamedTuple):
    """Keyword arguments of `jaxvision.ops.generate_proposals`."""

    train: dict[str, Any]
    test: dict[str, Any]


def _proposing(
    pre_nms_top_n_train: int,
    pre_nms_top_n_test: int,
    post_nms_top_n_train: int,
    post_nms_top_n_test: int,
    nms_thresh: float,
    score_thresh: float,
) -> _Proposing:
    """How proposals are made.

    Raises:
      OptionError: an option is out of range.
    """
    check_range("rpn_nms_thresh", nms_thresh, least=0, most=1)
    check_range("rpn_score_thresh", score_thresh, least=0, most=1)
    of = {}
    for mode, before, after in (
        ("train", pre_nms_top_n_train, post_nms_top_n_train),
        ("test", pre_nms_top_n_test, post_nms_top_n_test),
    ):
        check_range(f"rpn_pre_nms_top_n_{mode}", before, least=1)
        check_range(f"rpn_post_nms_top_n_{mode}", after, least=1)
        counts = {"pre_nms_top_n": before, "post_nms_top_n": after}
        of[mode] = {**counts, "nms_thresh": nms_thresh, "score_thresh": score_thresh}
    return _Proposing(**of)


def _check_network(model: nn.Module, *, second_stage: bool) -> None:
    """Raises OptionError unless a network is a `FasterRCNN` with an RPN, and has a second stage or
    none."""
    name, wanted = type(model).__name__, "fasterrcnn_resnet50_fpn"
    if not second_stage:
        wanted = "rpn_resnet50_fpn"
    if isinstance(model, FasterRCNN):
        if model.anchor_sizes is None:
            name += " without anchor_sizes"
        elif (model.box_head is not None) == second_stage:
            return
        else:
            name += f" with{'out' if second_stage else ''} box_head"
    raise OptionError("model", f"model is {name}: give a network like {wanted}")


def _first_stage(
    model: FasterRCNN, outputs: Any, example: DetectionBatch
) -> tuple[Array, Array, Array]:
    """Logits f[N], deltas f[N, 4] and anchors f32[N, 4] of all maps of one image."""
    count = sum(name.removeprefix("objectness").isdigit() for name in outputs)
    logits = outputs_of_maps(outputs, "objectness", count)
    anchors = model.anchors(example.image.shape[:2], [x.shape[:2] for x in logits])
    deltas = outputs_of_maps(outputs, "rpn_deltas", count)
    return rows(logits, axes=0), rows(deltas), jnp.concatenate(anchors)
