"""What a detector is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flax import linen as nn
from jax import Array

from jaxvision.core import DetectionBatch, Detections, Keys, Terms, check_range
from jaxvision.metrics import COCO_KEYPOINT_SIGMAS

Candidates = tuple[Array, Array]
"""Boxes f32[N, 4], xyxy, pixels, and scores f32[N, C], of every prediction of a network."""


@dataclass(frozen=True)
class Adversarial:
    """Self-adversarial training: images are changed first, so that less is found in them.

    The step begins with a forward and a backward pass that change the images, and not the network:
    they take one step down the gradient of a cost. The training step on the changed images follows,
    with the true objects.

    Attributes:
      cost: (outputs) -> f32[]: of one image; what is to vanish.
      rate: by what the gradient is multiplied.
      probability: of each image to be changed.
      start: steps of the training before the first image is changed.
    Source: Bochkovskiy et al. 2020 ("YOLOv4"), section 3.3.
    """

    cost: Callable[[Any], Array]
    rate: float
    probability: float = 0.5
    start: int = 1000

    def __post_init__(self) -> None:
        check_range("adversarial_rate", self.rate, more_than=0)
        check_range("adversarial_probability", self.probability, least=0, most=1)
        check_range("adversarial_start", self.start, least=0)


@dataclass(frozen=True)
class Detector:
    """A network with the loss and the decoding of its maps.

    The detection task knows nothing else of a family of detectors.

    Attributes:
      model: the network.
      loss: (outputs, example) -> named (total, weight) pairs, or one pair, of one example;
        `example.box_mask` is True for the objects that are trained on. It gets `key` and `step` by
        name too, if its signature names them. None: for evaluation only.
      decode: (outputs, example) -> Detections, in pixels of the network's input, clipped to
        `example.extent`; of the example it may use `image`, `extent`, `placement` and `size`.
      forward: as `jaxvision.core.Task.forward`; None: the network on the images. In training
        `batch.box_mask` is True for the objects that are trained on. What it returns in training is
        given to `loss`, and what it returns in evaluation to `decode` and `metrics`.
      given: (batch, keys, which are None in evaluation) -> further keyword arguments of the network
        besides the images, such as functions between its stages, where there is no `forward`; None:
        there are none.
      metrics: (outputs, example) -> named (total, weight) pairs of one example, measured beside the
        average precision; `example.box_mask` is True for the objects that evaluation counts. None:
        there are none.
      multiple_of: both sides of the network's input are a multiple of it.
      origin: name of a field of this record -> (the object there, its description in JSON), for
        detectors that have a name; see `jaxvision.core.describe`.
      num_classes: how many classes the network tells apart; None: it is not checked.
      freeze: patterns of parameters that are not trained, see `jaxvision.core.patterns`.
      class_agnostic: whether the labels of detections have no meaning, so that evaluation takes all
        objects as one class.
      recall_detections: of how many detections of an image evaluation always gives the average
        recall, "AR1000" of 1000, at least COCO's 100; None: as other numbers of COCO.
      masks: whether the loss needs the masks of objects, `example.masks` and `example.mask_frames`.
      num_keypoints: how many keypoints of each object the loss needs, in `example.keypoints`;
        None: it needs none.
      proposals: whether `forward` needs proposals, `batch.proposals` and `batch.proposal_mask`.
      adversarial: of self-adversarial training, see `Adversarial`; None: there is none.
      keypoint_sigmas: standard deviations of the keypoints that `decode` gives, if it does, for
        their average precision; see `jaxvision.metrics.coco_average_precision`.
    """

    model: nn.Module
    loss: Callable[..., Terms] | None
    decode: Callable[[Any, DetectionBatch], Detections]
    forward: Callable[..., Any] | None = None
    given: Callable[[DetectionBatch, Keys | None], dict[str, Any]] | None = None
    metrics: Callable[[Any, DetectionBatch], Terms] | None = None
    multiple_of: int = 1
    origin: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    num_classes: int | None = None
    freeze: tuple[str, ...] = ()
    class_agnostic: bool = False
    recall_detections: int | None = None
    masks: bool = False
    num_keypoints: int | None = None
    proposals: bool = False
    adversarial: Adversarial | None = None
    keypoint_sigmas: tuple[float, ...] = COCO_KEYPOINT_SIGMAS
