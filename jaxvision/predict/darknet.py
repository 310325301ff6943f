"""Makes a task of a detector that a Darknet description describes."""

from collections.abc import Sequence

from jaxvision.core import Inputs, OptionError, Task
from jaxvision.interop import DarknetNetwork, Description
from jaxvision.ops import WordTree
from jaxvision.tasks import DetectOptions, detection
from jaxvision.tasks.detectors import darknet


def darknet_task(
    description: Description,
    *,
    class_names: Sequence[str] = (),
    score_threshold: float = 0.005,
    iou_threshold: float = 0.45,
    max_detections: int = 100,
    tree: WordTree | None = None,
    nodes: Sequence[int] | None = None,
    tree_threshold: float = 0.5,
) -> Task:
    """Makes a task that predicts with a detector in Darknet's format.

    It cannot train: its `loss` is None. Its variables are those of
    `jaxvision.interop.read_weights`. Images are resized and boxes suppressed as the description
    says, see `Description.resize` and `Description.nms`.

    Args:
      description: of a detector.
      class_names: of its classes; (): they are numbered.
      score_threshold: least score of what is found, 0 to 1; see `jaxvision.tasks.DetectOptions`.
      iou_threshold: IoU with a better box of its class above which a box is suppressed, 0 to 1.
      max_detections: objects in an image at most.
      tree: of a detector whose classes are the nodes of a tree, see
        `jaxvision.tasks.detectors.darknet`, as the next two.
      nodes: the node of each class.
      tree_threshold: what the probability of a node must be above.
    Returns:
      a task of the kind "detection"; `decode` gives `Detections`.
    Raises:
      InputError: an option is out of range, the description has no detector, the number of names
        is not that of the classes, or the file of a tree or of a map is not there or does not fit.
    """
    options = DetectOptions(
        score_threshold=score_threshold,
        iou_threshold=iou_threshold,
        max_detections=max_detections,
    )
    in_tree = {"tree": tree, "nodes": nodes, "tree_threshold": tree_threshold}
    detector = darknet(DarknetNetwork(description), **in_tree, loss=None, decode=options)
    count = detector.num_classes
    if class_names and len(class_names) != count:
        raise OptionError(
            "class_names",
            f"class_names has {len(class_names)} names, but the detector has {count} classes: give "
            "a name for each class",
        )
    size, channels = tuple(description.image[:2]), description.image[2]
    inputs = Inputs(size, channels, resize=description.resize)
    return detection(detector, inputs, class_names=class_names or count)
