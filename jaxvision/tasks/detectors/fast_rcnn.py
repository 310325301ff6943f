"""Fast R-CNN as a detector: the second stage of Faster R-CNN, on proposals that are given."""

from typing import Any

import jax
from flax import linen as nn
from jax import Array

from jaxvision.core import DetectionBatch, InputError, Keys, OptionError, Terms
from jaxvision.losses import fast_rcnn_loss
from jaxvision.models.detection.faster_rcnn import FasterRCNN
from jaxvision.tasks.building import maps_of_image
from jaxvision.tasks.decoding import DetectOptions
from jaxvision.tasks.detectors.detector import Detector
from jaxvision.tasks.detectors.faster_rcnn import (
    FASTER_RCNN_DECODE,
    detect_with,
    draw_proposals,
    pack_detections,
    sampling_of,
)
from jaxvision.tasks.detectors.parts import PROBE, Loss, checked_loss, described_detector


def fast_rcnn(
    model: nn.Module,
    *,
    box_fg_iou_thresh: float = 0.5,
    box_batch_size_per_image: int = 64,
    box_positive_fraction: float = 0.25,
    trainable_backbone_layers: int | None = None,
    loss: Loss | None = fast_rcnn_loss,
    decode: DetectOptions = FASTER_RCNN_DECODE,
    **options: Any,
) -> Detector:
    """Fast R-CNN: proposals, such as those of selective search, are classified and refined.

    The network computes the maps of an image once, and of them the features of all proposals. The
    examples need proposals, see `jaxvision.data.WithProposals`. As in Faster R-CNN, the objects'
    own boxes are proposals too in training, and all proposals without an object are background; the
    paper takes only those whose IoU with an object is at least 0.1.

    Args:
      model: a network like `jaxvision.models.create_model("fastrcnn_vgg16")`, without an RPN.
      box_fg_iou_thresh: least IoU of a proposal with the object that it is trained to find.
      box_batch_size_per_image: proposals of an image in the sample; the paper has 64 of each of two
        images.
      box_positive_fraction: the largest fraction of them that have an object.
      trainable_backbone_layers: last stages of the backbone that are trained; None: all.
      loss: with the signature of `jaxvision.losses.fast_rcnn_loss`; None: for evaluation only.
      decode: which candidates become detections.
      **options: keyword arguments of the loss, such as beta=1/9.
    Raises:
      OptionError: an option is out of range, an option that the loss does not have, or a network of
        another form.
    Source: Girshick 2015 ("Fast R-CNN"), section 2.
    """
    _check_network(model)
    sampling = sampling_of(box_batch_size_per_image, box_positive_fraction, box_fg_iou_thresh)
    maps = maps_of_image(model, (PROBE, PROBE, 3))
    example_loss = checked_loss(loss, 6, {}, options)

    def between_stages(batch: DetectionBatch, keys: Keys | None) -> dict[str, Any]:
        proposals = given_proposals(batch)
        if keys is None:
            return {"propose": lambda rpn: proposals, "detect": detect_with(decode, batch)}
        drawn = draw_proposals(proposals, batch, keys, **sampling)
        return {"propose": lambda rpn: drawn, "detect": lambda *outputs: {}}

    def total(outputs: Any, example: DetectionBatch, *, key: Array, step: Array) -> Terms:
        names = "class_logits", "box_regression", "proposals", "matches"
        truth = example.boxes, example.labels
        return example_loss(*(outputs[name] for name in names), *truth, key=key, step=step)

    of_training = {
        "box_fg_iou_thresh": box_fg_iou_thresh,
        "box_batch_size_per_image": box_batch_size_per_image,
        "box_positive_fraction": box_positive_fraction,
    }
    return described_detector(
        "fast_rcnn",
        model,
        loss and total,
        pack_detections,
        {"decode": decode},
        loss_function=loss,
        loss_options={**options, **of_training},
        given=between_stages,
        multiple_of=32,
        num_classes=maps["class_logits"].shape[-1] - 1,
        proposals=True,
        trainable_backbone_layers=trainable_backbone_layers,
    )


def given_proposals(batch: Any) -> dict[str, Array]:
    """The proposals of a batch, by the names of `jaxvision.models.detection.faster_rcnn`.

    Raises:
      InputError: it has none.
    """
    proposals, mask = (getattr(batch, name, None) for name in ("proposals", "proposal_mask"))
    if proposals is None or mask is None:
        raise InputError(
            "the detector classifies proposals, which the examples lack: give a source "
            "WithProposals, and max_proposals to ToDetection"
        )
    return {"proposals": jax.lax.stop_gradient(proposals), "proposal_mask": mask}


def _check_network(model: nn.Module) -> None:
    """Raises OptionError unless a network is a `FasterRCNN` that has a box head alone."""
    name = type(model).__name__
    if isinstance(model, FasterRCNN):
        others = ("anchor_sizes", "mask_head", "keypoint_head")
        extra = [field for field in others if getattr(model, field) is not None]
        if not extra and model.box_head is not None:
            return
        name += f" with {extra[0]}" if extra else " without box_head"
    raise OptionError("model", f"model is {name}: give a network like fastrcnn_resnet50_fpn")
