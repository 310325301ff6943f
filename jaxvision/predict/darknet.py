"""Makes a task of a detector that a Darknet description describes."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxvision.core import Detections, InputError, Inputs, OptionError, Task, extent_of
from jaxvision.interop import DarknetNetwork, Description
from jaxvision.tasks.darknet import darknet_candidates
from jaxvision.tasks.decoding import DetectOptions, detect


def darknet_task(
    description: Description,
    *,
    class_names: Sequence[str] = (),
    score_threshold: float = 0.005,
    iou_threshold: float = 0.45,
    max_detections: int = 100,
) -> Task:
    """Makes a task that predicts with a detector in Darknet's format.

    It cannot train: its `loss` is None. Its variables are those of
    `jaxvision.interop.read_weights`. Images are resized and boxes suppressed as the description
    says, see `Description.resize` and `Description.nms`.

    Args:
      description: of a detector.
      class_names: of its classes; (): unknown.
      score_threshold: least score of what is found, 0 to 1; see `jaxvision.tasks.DetectOptions`.
      iou_threshold: IoU with a better box of its class above which a box is suppressed, 0 to 1.
      max_detections: objects in an image at most.
    Returns:
      a task of the kind "detection"; `decode` gives `Detections`.
    Raises:
      InputError: an option is out of range, the description has no detector, or the number of
        names is not that of the classes.
    """
    options = DetectOptions(
        score_threshold=score_threshold,
        iou_threshold=iou_threshold,
        max_detections=max_detections,
        distance_power=description.nms.distance_power,
    )
    network = DarknetNetwork(description)
    size, channels = tuple(description.image[:2]), description.image[2]
    heads = description.heads(*size)
    if not heads:
        raise InputError(
            f"{description.source} does not describe a detector: it has no [detection], [region] "
            "or [yolo] section"
        )
    if class_names and len(class_names) != heads[0].num_classes:
        raise OptionError(
            "class_names",
            f"class_names has {len(class_names)} names, but the detector has "
            f"{heads[0].num_classes} classes: give a name for each class",
        )

    def init(key: Array) -> dict[str, Any]:
        return network.init(key, jnp.zeros((1, *size, channels)), train=False)

    def prepare(example: Any) -> Any:
        return example.replace(image=example.image / 255)

    def forward(
        variables: Any, batch: Any, *, keys: Any, step: Any, train: bool
    ) -> tuple[dict[str, Array], dict[str, Any]]:
        del keys, step
        return network.apply(variables, batch.image, train=train), {}

    def decode(maps: dict[str, Array], example: Any) -> Detections:
        return detect(
            *darknet_candidates(heads, maps, image_size=size),
            image_size=extent_of(example),
            options=options,
        )

    return Task(
        init=init,
        augment=lambda key, example: example,
        prepare=prepare,
        forward=forward,
        loss=None,
        metrics=lambda outputs, example: {},
        decode=decode,
        kind="detection",
        inputs=Inputs(
            size,
            channels,
            resize=description.resize,
        ),
        class_names=tuple(class_names),
    )
