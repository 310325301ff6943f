"""Detection: boxes with a class each, by any detector."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxvision.augment import Compose
from jaxvision.core import (
    AXIS,
    DatasetMetric,
    DetectionBatch,
    Detections,
    InputError,
    Inputs,
    Keys,
    OptionError,
    Task,
    Terms,
    check_range,
    describe,
    lookup,
    option_errors,
    restore,
)
from jaxvision.metrics.coco import MAX_DETECTIONS
from jaxvision.ops import box_area, clip_boxes_to_image, to_original
from jaxvision.tasks.adversarial import perturbation
from jaxvision.tasks.building import (
    as_terms,
    augment_of,
    check_augment,
    check_signature,
    described,
    forward_of,
    init_of,
    names_of,
    prepare_of,
    synchronised,
    with_key_and_step,
)
from jaxvision.tasks.detection_metrics import (
    CONFUSION_SCORE,
    KEYPOINT_NUMBERS,
    MASK_NUMBERS,
    NUMBERS,
    summarize_detections,
)
from jaxvision.tasks.detectors import DETECTORS, Detector
from jaxvision.tasks.names import NAMES
from jaxvision.tasks.object_parts import (
    FramedDetections,
    check_objects,
    has_masks,
    original_points,
    paste_found,
)


def detection(
    detector: Detector,
    inputs: Inputs,
    *,
    class_names: Sequence[str] | int,
    augment: Sequence[Any] = (),
    train_difficult: bool = False,
    voc_inclusive: bool = False,
    confusion_score: float = CONFUSION_SCORE,
    sync_batch_norm: bool = True,
) -> Task:
    """Creates the task of finding objects in images, by a detector of any family.

    `decode` is the detector's. The metrics are COCO's numbers ("AP", "AP50", "AP75", ...) and
    "mAP_VOC", VOC's average precision at an IoU of 0.5 (area under the curve), of boxes in pixels
    of the original images; "AP", "AP50", "AP75" and "mAP_VOC" are always there, and 0 if the data
    has no objects at all. A detector may add metrics of its own. The tables are, for K classes,

    - "class_ap", "class_ap50", "class_ap75" f64[K], and "class_objects" i64[K], their number
    - "precision50", "precision75": f64[K, 101], the precision-recall curves at an IoU of 0.5 and
      of 0.75: the precision at recalls of 0, 0.01, ..., 1, NaN for classes without objects
    - "confusions": i64[K + 1, K + 1]: row t, column p holds the number of objects of class t that
      class p was found for; the last row and column stand for the background. See
      `jaxvision.metrics.matched_classes` for the rule, with an IoU of 0.5. Of more than 2,000
      classes there is no such table
    - "confused_pairs": i64[P, 3], see `jaxvision.metrics.confused_pairs`; K is the background
    - "confusion_objects": i64[K + 1], the sums of the rows of "confusions"

    If the detector finds masks, COCO's numbers of masks are there too, "mask_AP", "mask_AP50",
    "mask_AP75", ..., and the tables "class_mask_ap", "class_mask_ap50", "class_mask_ap75",
    "mask_precision50" and "mask_precision75". They need records with masks. What is collected has
    the masks of each image as a `jaxvision.ops.MaskTable` of its valid detections. If it finds
    keypoints, there are likewise COCO's ten numbers of keypoints, "keypoint_AP", ..., of records
    with keypoints, by the `keypoint_sigmas` of the detector.

    Args:
      detector: from `jaxvision.tasks.detectors`, or your own.
      inputs: size, normalisation and resizing of the images.
      class_names: of the labels, in their order; or how many there are.
      augment: augmentations, see `jaxvision.augment`, one after the other.
      train_difficult: whether objects that are flagged as difficult are trained on; regions of
        many objects ("crowd") never are.
      voc_inclusive: whether "mAP_VOC" takes the boxes of detections to include their last pixel,
        as the VOC development kit and scripts of Darknet's time do: 1 is added to their widths and
        heights. The boxes of the objects have been widened by it already as they were read.
      confusion_score: least score of a detection in the confusion matrix.
      sync_batch_norm: whether batch norms use the statistics of the batches of all devices, so that
        losses do not depend on the number of devices. False: those of each device's part, which
        saves two all-reduces a norm; the running statistics are the means over the devices. A
        `forward` of the detector's own decides itself.
    Raises:
      OptionError: an option is out of range, or does not fit the others.
    """
    class_names = names_of(class_names)
    _check_multiple(inputs, detector.multiple_of)
    check_range("confusion_score", confusion_score, least=0, most=1)
    network, augmentation = synchronised(detector.model, sync_batch_norm), augment_of(augment)
    run = detector.forward or forward_of(network, detector.given)

    def forward(
        variables: dict[str, Any],
        batch: DetectionBatch,
        *,
        keys: Keys | None,
        step: Array,
        train: bool,
    ) -> tuple[Any, dict[str, Any]]:
        return run(
            variables,
            with_trained(batch) if train else batch,
            keys=keys,
            step=step,
            train=train,
        )

    def with_trained(example: DetectionBatch) -> DetectionBatch:
        trained = trained_on(example.crowd, example.difficult, difficult_too=train_difficult)
        return example.replace(box_mask=example.box_mask & trained)

    if detector.num_classes not in (None, len(class_names)):
        raise OptionError(
            "model",
            f"model tells {detector.num_classes} classes apart, but there are {len(class_names)} "
            f"class_names: create it with num_classes={len(class_names)}",
        )
    loss = None
    if detector.loss is not None:
        check_signature("loss", detector.loss, None, None)
        example_loss = with_key_and_step(detector.loss)

        def loss(outputs: Any, example: DetectionBatch, *, key: Array, step: Array) -> Terms:
            _check_example(detector, example)
            terms = example_loss(outputs, with_trained(example), key=key, step=step)
            return as_terms(terms, "detection_loss")

    def metrics(outputs: Any, example: DetectionBatch) -> Terms:
        if detector.metrics is None:
            return {}
        counted = trained_on(example.crowd, example.difficult, difficult_too=False)
        return detector.metrics(outputs, example.replace(box_mask=example.box_mask & counted))

    def augment_example(key: Array, example: DetectionBatch) -> DetectionBatch:
        # What describes the original image is of no use once the image has changed.
        forgotten = {"placement": None, "size": None, "area": None}
        others = example.partners and example.partners.replace(**forgotten)
        example = example.replace(partners=others, **forgotten)
        return augmentation(key, example).replace(partners=None)

    def collect(outputs: Any, example: DetectionBatch) -> Detections | FramedDetections:
        found = detector.decode(outputs, example)
        frames = to_original(found.boxes, example.placement)
        boxes = clip_boxes_to_image(frames, example.size)
        # There is nothing to be found beside a letterboxed image.
        found = found.replace(boxes=boxes, valid=found.valid & (box_area(boxes) > 0))
        if found.keypoints is not None:
            points = original_points(found.keypoints, example.placement)
            found = found.replace(keypoints=points)
        return found if found.masks is None else FramedDetections(found, frames, example.size)

    perturb, of_perturb = None, {}
    if detector.adversarial is not None and loss is not None:
        perturb = perturbation(forward, detector.adversarial, inputs)
        of_perturb = described(
            **{
                f"adversarial_{name}": getattr(detector.adversarial, name)
                for name in ("rate", "probability", "start")
            }
        )
    task = Task(
        init=init_of(network, inputs.shape),
        augment=augment_example,
        prepare=prepare_of(inputs),
        forward=forward,
        loss=loss,
        metrics=metrics,
        decode=detector.decode,
        perturb=perturb,
        kind="detection",
        inputs=inputs,
        class_names=class_names,
        partners=augmentation.partners,
        sync_batch_norm=sync_batch_norm,
        freeze=detector.freeze,
        origin={
            "inputs": (inputs, describe(inputs, NAMES)),
            "forward": (forward, _forward_part(detector)),
            "loss": (loss, {**_part(detector, "loss"), "train_difficult": train_difficult}),
            "augment": (augment_example, described(augment=tuple(augment))),
            "decode": (detector.decode, _part(detector, "decode")),
            **({} if perturb is None else {"perturb": (perturb, of_perturb)}),
        },
    )
    decoded = _check(task, detector, augmentation)
    masks, keypoints = has_masks(decoded), decoded.keypoints is not None
    measured = {"voc_inclusive": voc_inclusive, "confusion_score": confusion_score}
    names = NUMBERS + masks * MASK_NUMBERS + keypoints * KEYPOINT_NUMBERS
    if detector.recall_detections is not None:
        check_range("recall_detections", detector.recall_detections, least=MAX_DETECTIONS[-1])
        names += (f"AR{detector.recall_detections}",)
    dataset_metric = DatasetMetric(
        names,
        collect,
        partial(
            summarize_detections,
            names=names,
            num_classes=len(class_names),
            class_agnostic=detector.class_agnostic,
            recall_detections=detector.recall_detections,
            keypoint_sigmas=detector.keypoint_sigmas,
            **measured,
        ),
        reduce=paste_found if masks else None,
        check=partial(check_objects, masks=masks, keypoints=keypoints),
    )
    origin = {**task.origin, "dataset_metric": (dataset_metric, measured)}
    return dataclasses.replace(task, dataset_metric=dataset_metric, origin=origin)


def restore_detection(
    parts: Mapping[str, Any], *, decode: Mapping[str, float] | None = None
) -> Task:
    """The task for evaluation that a description tells of: without loss and augmentation.

    Args:
      parts: of the description; loss and augmentation are not used.
      decode: options of the decoding that are changed, such as {"score_threshold": 0.3}.
    Raises:
      InputError: the network or the decoding has no name in the library.
    """
    for name in ("forward", "given"):
        if name in parts["forward"]:
            restore(parts["forward"][name], NAMES)  # says which function it is
            raise InputError(f"the detector's {name} has no name: give the task itself")
    model = restore(parts["forward"]["model"], NAMES)
    options = dict(parts["decode"])
    if "detector" not in options:
        restore(options.get("decode"), NAMES)  # says which function it is
        raise InputError("the detector's decoding has no name: give the task itself")
    constructor = lookup(DETECTORS, options.pop("detector"), "detector")
    settings = restore({**options.pop("decode"), **(decode or {})}, NAMES)
    with option_errors("detector"):
        options = {name: restore(option, NAMES) for name, option in options.items()}
        detector = constructor(model, **options, loss=None, decode=settings)
    measured = parts.get("dataset_metric", {})
    return detection(
        detector,
        restore(parts["inputs"], NAMES),
        class_names=parts["class_names"],
        voc_inclusive=measured.get("voc_inclusive", False),
        confusion_score=measured.get("confusion_score", CONFUSION_SCORE),
    )


def _check_multiple(inputs: Inputs, number: int) -> None:
    """Raises OptionError if a side of the network's input may be no multiple of a number."""
    if inputs.pads and inputs.multiple_of % number:
        raise OptionError(
            "multiple_of", f"multiple_of is {inputs.multiple_of}: give a multiple of {number}"
        )
    if not inputs.pads and any(side % number for side in inputs.size):
        raise OptionError("size", f"size is {inputs.size}: give multiples of {number}")


def trained_on(crowd: Any, difficult: Any, *, difficult_too: bool) -> Any:
    """Tells which objects a detector is trained on.

    Args:
      crowd: bool[...], of numpy or JAX.
      difficult: bool[...].
      difficult_too: whether difficult objects count.
    Returns:
      bool[...]: False for crowds, and for difficult objects unless they count.
    """
    return ~crowd if difficult_too else ~(crowd | difficult)


def _check_example(detector: Detector, example: DetectionBatch) -> None:
    """Raises InputError if examples lack what a detector is trained on."""
    lacking = {
        "masks=True": detector.masks and example.masks is None,
        f"num_keypoints={detector.num_keypoints}": detector.num_keypoints
        and example.keypoints is None,
    }
    for option, lacks in lacking.items():
        if lacks:
            what = option.partition("=")[0].removeprefix("num_")
            raise InputError(
                f"the detector is trained on {what} of objects, which the examples lack: give "
                f"{option} to ToDetection"
            )


def _forward_part(detector: Detector) -> dict[str, Any]:
    """The description of how a detector runs."""
    parts = [_part(detector, name) for name in ("forward", "given")]
    return {"model": _part(detector, "model"), **parts[0], **parts[1]}


def _part(detector: Detector, name: str) -> Any:
    """The description of a detector's field."""
    value = getattr(detector, name)
    known, description = detector.origin.get(name, (None, None))
    if name in detector.origin and known is value:
        return description
    return described(**{name: value}) if name != "model" else described(model=value)["model"]


def _check(task: Task, detector: Detector, augmentation: Compose) -> Detections:
    """Goes through a task on an empty example, without computing it, for what its options raise.

    Returns:
      the shapes and dtypes of what is decoded of an example.
    Raises:
      OptionError: an option is out of range, or of another kind.
    """
    none, with_masks = jnp.zeros(1, bool), detector.masks or augmentation.needs_masks
    example = DetectionBatch(
        image=jnp.zeros(task.inputs.shape, jnp.uint8),
        boxes=jnp.zeros((1, 4)),
        labels=jnp.zeros(1, jnp.int32),
        box_mask=none,
        crowd=none,
        difficult=none,
        mask=jnp.bool_(True),
        extent=jnp.array(task.inputs.shape[:2], jnp.int32),
        masks=jnp.zeros((1, 1, 1), jnp.uint8) if with_masks else None,
        mask_frames=jnp.zeros((1, 4)) if with_masks else None,
        keypoints=detector.num_keypoints and jnp.zeros((1, detector.num_keypoints, 3)),
        proposals=jnp.zeros((1, 4)) if detector.proposals else None,
        proposal_mask=none if detector.proposals else None,
    )
    check_augment(augmentation, example)
    key = jax.random.key(0)

    def outputs_of(key: Array, *, train: bool) -> Any:
        batch = jax.tree.map(lambda x: x[None], example)
        batch = jax.vmap(task.prepare)(batch)
        keys = Keys(key[None], key) if train else None
        how = {"keys": keys, "step": jnp.int32(0), "train": train}
        # Norms that are synchronised need the axis of the devices.
        run = jax.vmap(partial(task.forward, **how), (None, 0), axis_name=AXIS)
        outputs, _ = run(task.init(key), jax.tree.map(lambda x: x[None], batch))
        return jax.tree.map(lambda x: x[0, 0], outputs)

    def terms_of(outputs: Any) -> Terms:
        return task.loss(outputs, example, key=key, step=jnp.int32(0))

    with option_errors("model"):
        outputs = jax.eval_shape(partial(outputs_of, train=False), key)
    if task.loss is not None:
        in_training = outputs
        if detector.forward or detector.given:  # may give something else then
            with option_errors("model"):
                in_training = jax.eval_shape(partial(outputs_of, train=True), key)
        with option_errors("loss"):
            jax.eval_shape(terms_of, in_training)
    with option_errors("decode"):
        return jax.eval_shape(task.decode, outputs, example)
