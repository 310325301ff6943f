"""YOLOv4, YOLOv4-tiny and YOLOv4-csp as detectors."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array, lax

from jaxvision.core import DetectionBatch, OptionError, Terms, at_least_float32, check_range
from jaxvision.losses import yolov4_loss
from jaxvision.ops import box_area
from jaxvision.tasks.decoding import DetectOptions
from jaxvision.tasks.detectors.detector import Adversarial, Candidates, Detector
from jaxvision.tasks.detectors.parts import (
    Loss,
    check_count,
    checked_loss,
    described_detector,
    with_anchors,
)
from jaxvision.tasks.detectors.yolo import (
    Anchors,
    decode_of,
    probed_maps,
    sizes_of,
    strides_of,
    yolo_candidates,
)

YOLOV4_DECODE = DetectOptions(score_threshold=0.001, iou_threshold=0.6, distance_power=0.6)
"""As Darknet evaluates on COCO: its "greedynms", and its "diounms" with beta 0.6."""

_ADVERSARIAL_SCORE = 0.25
"""Score above which self-adversarial training makes a prediction vanish."""


def yolov4(
    model: nn.Module,
    anchors: Anchors,
    *,
    masks: Sequence[Sequence[int]] = (),
    scale_x_y: float | Sequence[float] = (1.05, 1.1, 1.2),
    squared: bool = False,
    adversarial_rate: float = 0.0,
    adversarial_probability: float = 0.5,
    adversarial_start: int = 1000,
    loss: Loss | None = yolov4_loss,
    decode: DetectOptions = YOLOV4_DECODE,
    **options: Any,
) -> Detector:
    """YOLOv4: a box for each anchor in each cell of several maps, whose cells are stretched.

    Args:
      model: a network like `jaxvision.models.create_model("yolov4")`; its field `num_anchors` is
        set to the number of anchors of a map.
      anchors: (width, height) of each, pixels.
      masks: for each map from coarse to fine the indices of its anchors, as many for each; a map
        may have anchors of another, and some may be of none. (): as many for each map, the largest
        ones for the coarsest.
      scale_x_y: how far cells are stretched, see `jaxvision.ops.decode_yolo`: of all maps, or of
        each from coarse to fine.
      squared: whether sizes are those of Scaled-YOLOv4, see `jaxvision.ops.decode_yolo`.
      adversarial_rate: of self-adversarial training, see `Adversarial`; 0: there is none. What is
        to vanish are the predictions with a score above 0.25.
      adversarial_probability: of it.
      adversarial_start: of it.
      loss: with the signature of `jaxvision.losses.yolov4_loss`; None: for evaluation only.
      decode: which candidates become detections.
      **options: keyword arguments of the loss, such as `iou_threshold` and `box_gradient`.
    Raises:
      OptionError: anchors that are no sizes or do not fit the maps, an option that is out of range
        or that the loss does not have, or a network of another form.
    Source: Bochkovskiy et al. 2020 ("YOLOv4").
    """
    sizes = sizes_of(anchors)
    levels = [level for level, *_ in getattr(model, "scales", ())]
    if not levels:
        raise OptionError("model", "model has no scales: give a network like yolov4")
    masks = _checked_masks(masks, sizes, len(levels))
    scales = (scale_x_y,) * len(levels) if isinstance(scale_x_y, float | int) else (*scale_x_y,)
    check_count("scale_x_y", scales, len(levels))
    for scale in scales:
        check_range("scale_x_y", scale, more_than=0)
    model = with_anchors(model, len(masks[0]))
    names = tuple(f"logits{level}" for level in levels)
    maps_of = probed_maps(model, names)
    strides = strides_of(maps_of)
    decoding = {"strides": tuple(strides.values()), "scale_x_y": scales, "squared": squared}
    given = {**decoding, "masks": masks}
    example_loss = checked_loss(loss, 5, given, options)

    def total(maps: Any, example: DetectionBatch, *, key: Array, step: Array) -> Terms:
        logits = [maps[name] for name in names]
        truth = example.boxes, example.labels, example.box_mask
        return example_loss(logits, *truth, sizes, **given, key=key, step=step)

    of_maps = [sizes[list(mask)] for mask in masks]

    def candidates(maps: Any) -> Candidates:
        return yolov4_candidates([maps[name] for name in names], of_maps, **decoding)

    adversarial = None
    if adversarial_rate and loss is not None:
        cost = partial(_confident, strides=strides, candidates=candidates)
        adversarial = Adversarial(
            cost, adversarial_rate, adversarial_probability, adversarial_start
        )
    how = {"anchors": sizes.tolist(), "masks": masks, "scale_x_y": scales, "squared": squared}
    return described_detector(
        "yolov4",
        model,
        loss and total,
        decode_of(candidates, decode),
        {**how, "decode": decode},
        loss_function=loss,
        loss_options=options,
        multiple_of=max(strides.values()),
        num_classes=maps_of[names[0]].shape[-1] - 5,
        adversarial=adversarial,
    )


yolov4_tiny = partial(yolov4, scale_x_y=1.05, loss=partial(yolov4_loss, iou_threshold=1.0))
"""`yolov4` with the settings of YOLOv4-tiny, in which only the best anchor is responsible. Its
masks, where published, are ((3, 4, 5), (1, 2, 3)). Source: Darknet's yolov4-tiny.cfg."""

yolov4_csp = partial(
    yolov4,
    scale_x_y=2.0,
    squared=True,
    loss=partial(
        yolov4_loss,
        iou_threshold=0.2,
        box_weight=0.05,
        objectness_weight=(0.4, 1.0, 4.0),
        class_weight=0.5,
    ),
)
"""`yolov4` with the settings of YOLOv4-csp, but for the target of the objectness, which is 1 and
not the IoU on the coarser maps. Source: Wang et al. 2021 ("Scaled-YOLOv4"); Darknet's
yolov4-csp.cfg."""


def yolov4_candidates(
    logits: Sequence[Array],
    anchors: Sequence[Array],
    *,
    strides: Sequence[float],
    scale_x_y: Sequence[float],
    squared: bool = False,
) -> Candidates:
    """Decodes the maps of YOLOv4: sigmoid of the objectness times that of each class.

    Args:
      logits: f32[H_l, W_l, A_l, 5 + C] for each map.
      anchors: f32[A_l, 2] for each map, (width, height), pixels.
      strides: for each map, the side of a cell, pixels.
      scale_x_y: for each map, see `jaxvision.ops.decode_yolo`.
      squared: see `jaxvision.ops.decode_yolo`.
    Returns:
      boxes f32[N, 4] and scores f32[N, C], map after map.
    Source: Bochkovskiy et al. 2020 ("YOLOv4"), section 3.4.
    """
    maps = [
        yolo_candidates(*of_map, stride=stride, softmax=False, scale_x_y=scale, squared=squared)
        for *of_map, stride, scale in zip(logits, anchors, strides, scale_x_y, strict=True)
    ]
    boxes, scores = zip(*maps, strict=True)
    return jnp.concatenate(boxes), jnp.concatenate(scores)


def _checked_masks(
    masks: Sequence[Sequence[int]], sizes: np.ndarray, scales: int
) -> tuple[tuple[int, ...], ...]:
    """The anchors of each map from coarse to fine."""
    if not len(masks):
        if len(sizes) % scales:
            raise OptionError(
                "anchors",
                f"anchors has {len(sizes)}: the network predicts at {scales} scales, so give as "
                "many for each, or masks",
            )
        # The coarsest map gets the largest; on each they rise, as Darknet's do.
        by_size = np.argsort(np.prod(sizes, axis=1), kind="stable").reshape(scales, -1)[::-1]
        return tuple(map(tuple, by_size.tolist()))
    check_count("masks", masks, scales)
    masks = tuple(tuple(int(index) for index in mask) for mask in masks)
    counts = {len(mask) for mask in masks}
    if len(counts) > 1 or 0 in counts:
        raise OptionError("masks", f"masks is {masks}: give as many anchors for each map")
    if not all(0 <= index < len(sizes) for mask in masks for index in mask):
        raise OptionError("masks", f"masks is {masks}: the anchors are 0 to {len(sizes) - 1}")
    return masks


def _confident(
    maps: Any, *, strides: Mapping[str, int], candidates: Callable[[Any], Candidates]
) -> Array:
    """What self-adversarial training lets vanish: confident predictions, the more the larger.

    It is the sum, over predictions with any score above 0.25, of the square root of the share of
    the image that the box has, times BCE(to, 0) + sum_c BCE(tc, 0) over the classes with such a
    score.
    """
    boxes, scores = lax.stop_gradient(candidates(maps))
    share = jnp.minimum(box_area(boxes) / _area(maps, strides), 1)
    logits = jnp.concatenate(
        [at_least_float32(maps[name]).reshape(-1, maps[name].shape[-1]) for name in strides]
    )
    high = scores > _ADVERSARIAL_SCORE
    classes = jnp.where(high, jax.nn.softplus(logits[:, 5:]), 0).sum(axis=-1)
    objectness = jnp.where(high.any(axis=-1), jax.nn.softplus(logits[:, 4]), 0)
    return (jnp.sqrt(share) * (objectness + classes)).sum()


def _area(maps: Any, strides: Mapping[str, int]) -> int:
    """The area of the image that maps belong to, pixels."""
    name, stride = next(iter(strides.items()))
    rows, columns = maps[name].shape[:2]
    return rows * columns * stride**2
