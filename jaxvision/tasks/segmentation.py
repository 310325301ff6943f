"""Segmentation: a class for each pixel."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array

from jaxvision.core import (
    IGNORED,
    DatasetMetric,
    Inputs,
    OptionError,
    Record,
    SegmentationBatch,
    Summary,
    Task,
    Terms,
    check_range,
    close_names,
    describe,
    restore,
)
from jaxvision.metrics import dice_score, mean_iou, pixel_accuracy, roc_auc, score_histogram
from jaxvision.tasks.building import (
    as_terms,
    augment_of,
    check_augment,
    check_loss,
    check_map,
    crop_centre,
    described,
    forward_of,
    init_of,
    maps_of_image,
    names_of,
    prepare_of,
    synchronised,
    with_key_and_step,
)
from jaxvision.tasks.composite_losses import segmentation_loss
from jaxvision.tasks.names import NAMES


@dataclass(frozen=True)
class Segmentation(Task):
    """A task of segmentation, with what prediction needs to know of it.

    Attributes:
      scores: (outputs, example) -> f32[h, w, num_classes], the probabilities of the classes.
      positive_class: name of the class whose F1 score and ROC AUC are measured; None: of none.
      tile_overlap: share of the shorter side of a tile by which neighbouring tiles overlap, where
        large images are predicted in tiles.
      tile_average: whether the probabilities of overlapping tiles are averaged, instead of using of
        each tile what is far from its border.
    """

    scores: Callable[[Any, Any], Array] | None = None
    positive_class: str | None = None
    tile_overlap: float = 0.25
    tile_average: bool = False


def segmentation(
    model: nn.Module,
    inputs: Inputs,
    *,
    class_names: Sequence[str] | int,
    loss: Callable[..., Any] | None = segmentation_loss,
    auxiliary: tuple[Callable[..., Any], float] | None = None,
    augment: Sequence[Any] = (),
    positive_class: str | None = None,
    tile_overlap: float = 0.25,
    tile_average: bool = False,
    sync_batch_norm: bool = True,
) -> Segmentation:
    """Creates the task of finding the class of each pixel.

    A pixel gets the class of its highest logit. A network with one channel of logits tells two
    classes apart: the second one is where the sigmoid is above 1/2. `decode` gives the classes,
    i32[h, w]. The metrics are "mean_iou", "dice" and "pixel_accuracy"; the table "class_iou" has
    the intersection over union of each class. With `positive_class` there are "f1" and "roc_auc" of
    this class too, over all pixels of the data; both are 0 if the data have no such pixels. The
    score of a pixel is the probability of the class, counted in 1,024 bins (see
    `jaxvision.metrics.roc_auc`). The maps of a network without padding are smaller
    than its input: then the targets are cropped to their centre.

    Args:
      model: a network that gives "logits", f32[B, h, w, K], or K = 1 for two classes; and perhaps
        "aux", of an auxiliary head.
      inputs: size, normalisation and resizing of the images.
      class_names: of the labels 0, 1, ..., in their order; or how many there are. The first one is
        mostly the background.
      loss: (logits f32[h, w, K], labels int[h, w]) -> (total, weight), or named pairs of that form;
        pixels that do not count have the label 255. It gets `key` and `step` too, if its
        signature names them. None: a task for evaluation only.
      auxiliary: a loss of the map "aux" and its factor; None: `loss` and 0.5, if there is such a
        map. Its terms are named "aux_...".
      augment: augmentations, see `jaxvision.augment`, one after the other.
      positive_class: name of the class whose F1 score and ROC AUC are measured; None: of none.
      tile_overlap: share of the shorter side of a tile by which neighbouring tiles overlap, where
        prediction cuts large images into tiles; at least 0 and less than 1.
      tile_average: whether prediction averages the probabilities of overlapping tiles, instead of
        using of each tile what is far from its border.
      sync_batch_norm: whether batch norms use the statistics of the batches of all devices, so that
        losses do not depend on the number of devices. False: those of each device's part, which
        saves two all-reduces a norm; the running statistics are the means over the devices.
    Raises:
      OptionError: an option is out of range, or does not fit the others.
    """
    class_names = names_of(class_names, least=2, most=IGNORED)
    num_classes = len(class_names)
    maps = maps_of_image(model, inputs.shape)
    binary = "logits" in maps and maps["logits"].shape[-1] == 1 and num_classes == 2
    if not binary:
        check_map(maps, "logits", num_classes, "classes")
    check_range("tile_overlap", tile_overlap, least=0, less_than=1)
    if positive_class is not None and positive_class not in class_names:
        raise OptionError(
            "positive_class",
            f"positive_class is {positive_class!r}: {close_names(positive_class, class_names)}",
        )
    network, augmentation = synchronised(model, sync_batch_norm), augment_of(augment)
    nothing = SegmentationBatch(
        image=jnp.zeros(inputs.shape, jnp.uint8),
        labels=jnp.zeros(inputs.shape[:2], jnp.uint8),
        mask=jnp.bool_(True),
        extent=jnp.array(inputs.shape[:2], jnp.int32),
    )
    check_augment(augmentation, nothing)
    if auxiliary is not None and "aux" not in maps:
        raise OptionError(
            "auxiliary", 'auxiliary is set, but model gives no map "aux": leave it out'
        )
    task_loss = None
    if loss is not None:
        parts = {"": (loss, 1.0, maps["logits"])}
        if "aux" in maps:
            parts["aux_"] = (*(auxiliary or (loss, 0.5)), maps["aux"])
            check_range("auxiliary", parts["aux_"][1], least=0)
        for prefix, (function, _, logits) in parts.items():
            pixels = jnp.zeros(logits.shape), jnp.zeros(logits.shape[:2], jnp.uint8)
            option = "auxiliary" if prefix else "loss"
            check_loss(option, function, *pixels, term="segmentation_loss")
        task_loss = _loss_of(parts)

    def decode(outputs: Any, example: Any) -> Array:
        del example
        logits = outputs["logits"]
        if binary:
            return (logits[..., 0] > 0).astype(jnp.int32)
        return jnp.argmax(logits, axis=-1)

    def scores(outputs: Any, example: Any) -> Array:
        del example
        logits = outputs["logits"].astype(jnp.float32)
        if not binary:
            return jax.nn.softmax(logits)
        second = jax.nn.sigmoid(logits)
        return jnp.concatenate([1 - second, second], axis=-1)

    def metrics(outputs: Any, example: SegmentationBatch) -> Terms:
        found = decode(outputs, example)
        labels = crop_centre(example.labels, found.shape).astype(jnp.int32)
        how = {"num_classes": num_classes, "ignore_label": IGNORED}
        return {
            "mean_iou": mean_iou(found, labels, **how),
            "dice": dice_score(found, labels, **how),
            "pixel_accuracy": pixel_accuracy(found, labels, ignore_label=IGNORED),
        }

    def collect(outputs: Any, example: SegmentationBatch) -> dict[str, Any]:
        of_example = metrics(outputs, example)
        collected: dict[str, Any] = {"iou": of_example["mean_iou"]}
        if positive_class is None:
            return collected
        number = class_names.index(positive_class)
        of_class = scores(outputs, example)[..., number]
        labels = crop_centre(example.labels, of_class.shape)
        return {
            **collected,
            "f1": jnp.stack([x[number] for x in of_example["dice"]]),
            "scores": score_histogram(of_class, labels == number, labels != IGNORED),
        }

    forward = forward_of(network)
    how = {
        "positive_class": positive_class,
        "tile_overlap": tile_overlap,
        "tile_average": tile_average,
    }
    return Segmentation(
        init=init_of(network, inputs.shape),
        augment=augmentation,
        prepare=prepare_of(inputs),
        forward=forward,
        loss=task_loss,
        metrics=metrics,
        decode=decode,
        kind="segmentation",
        inputs=inputs,
        class_names=class_names,
        dataset_metric=DatasetMetric(
            () if positive_class is None else ("f1", "roc_auc"), collect, _summarize
        ),
        partners=augmentation.partners,
        sync_batch_norm=sync_batch_norm,
        origin={
            "inputs": (inputs, describe(inputs, NAMES)),
            "forward": (forward, described(model=model)),
            "loss": (task_loss, described(loss=loss, auxiliary=auxiliary)),
            "augment": (augmentation, described(augment=tuple(augment))),
            "metrics": (metrics, {}),
            "decode": (decode, how),
            "scores": (scores, {}),
        },
        scores=scores,
        **how,
    )


def restore_segmentation(parts: Mapping[str, Any]) -> Segmentation:
    """The task for evaluation that a description tells of: without loss and augmentation.

    Args:
      parts: of the description; loss and augmentation are not used.
    Raises:
      InputError: the network has no name in the library.
    """
    names, how = ("positive_class", "tile_overlap", "tile_average"), parts.get("decode", {})
    return segmentation(
        restore(parts["forward"]["model"], NAMES),
        restore(parts["inputs"], NAMES),
        class_names=parts["class_names"],
        loss=None,
        **{name: how[name] for name in names if name in how},
    )


def _summarize(collected: Mapping[str, Any], records: Sequence[Record]) -> Summary:
    """The intersection over union of each class over all examples, NaN where there is none; and the
    F1 score and ROC AUC of one class, if they were collected."""
    del records
    total = {
        name: np.sum(x, axis=0, dtype=np.float64) for name, x in collected.items() if name != "iou"
    }
    overlap, union = (np.sum(x, axis=0, dtype=np.float64) for x in collected["iou"])
    numbers = {}
    if total:
        twice_found, both = total["f1"]
        numbers["f1"] = float(twice_found / both) if both else 0.0
        area = roc_auc(total["scores"])
        numbers["roc_auc"] = 0.0 if np.isnan(area) else area
    with np.errstate(invalid="ignore"):
        return Summary(numbers, {"class_iou": np.where(union > 0, overlap / union, np.nan)})


def _loss_of(
    parts: Mapping[str, tuple[Callable[..., Any], float, Any]],
) -> Callable[..., Terms]:
    """The loss of several maps: prefix of the terms -> (loss, factor, the map's shape)."""
    outputs_of = {"": "logits", "aux_": "aux"}
    functions = {
        prefix: (with_key_and_step(function), factor)
        for prefix, (function, factor, _) in parts.items()
    }

    def loss(outputs: Any, example: SegmentationBatch, *, key: Array, step: Array) -> Terms:
        terms = {}
        for prefix, (function, factor) in functions.items():
            logits = outputs[outputs_of[prefix]]
            labels = crop_centre(example.labels, logits.shape[:2])
            result = function(logits, labels, key=key, step=step)
            for name, (total, weight) in as_terms(result, "segmentation_loss").items():
                terms[f"{prefix}{name}"] = factor * total, weight
        return terms

    return loss
