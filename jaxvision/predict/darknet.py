"""Makes a task of a detector that a Darknet description describes."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxvision.core import (
    Detections,
    InputError,
    Inputs,
    OptionError,
    Task,
    check_range,
    extent_of,
    option_errors,
)
from jaxvision.interop import (
    DarknetNetwork,
    Description,
    Head,
    find_beside,
    read_class_map,
    read_word_tree,
)
from jaxvision.ops import WordTree
from jaxvision.tasks.darknet import darknet_detections
from jaxvision.tasks.decoding import DetectOptions


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
      class_names: of its classes; (): unknown. Without a map of classes, those of a tree are all
        its nodes.
      score_threshold: least score of what is found, 0 to 1; see `jaxvision.tasks.DetectOptions`.
      iou_threshold: IoU with a better box of its class above which a box is suppressed, 0 to 1.
      max_detections: objects in an image at most.
      tree: of a detector whose classes are the nodes of a tree; None: it is read from the file
        that the description names, see `jaxvision.interop.find_beside`.
      nodes: likewise, the node of each class, whose score is the objectness times the probability
        of the node; (): all nodes are classes, the most specific one that is probable enough is
        found, and its score is the objectness. None: the map that the description names, or ().
      tree_threshold: likewise, what the probability of a node must be above, 0 to 1.
    Returns:
      a task of the kind "detection"; `decode` gives `Detections`.
    Raises:
      InputError: an option is out of range, the description has no detector, the number of names
        is not that of the classes, or the file of a tree or a map is not there or does not fit.
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
    tree, nodes = _tree_of(description, heads, tree, nodes)
    check_range("tree_threshold", tree_threshold, least=0, less_than=1)
    num_classes = heads[0].num_classes if nodes is None else len(nodes)
    if class_names and len(class_names) != num_classes:
        raise OptionError(
            "class_names",
            f"class_names has {len(class_names)} names, but the detector has {num_classes} "
            "classes: give a name for each class",
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
        return darknet_detections(
            heads,
            maps,
            image_size=size,
            extent=extent_of(example),
            tree=tree,
            nodes=nodes,
            tree_threshold=tree_threshold,
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


def _tree_of(
    description: Description,
    heads: Sequence[Head],
    tree: WordTree | None,
    nodes: Sequence[int] | None,
) -> tuple[WordTree | None, tuple[int, ...] | None]:
    """The tree of the classes and the nodes of the mapped ones: those given, or those of files."""
    source, head = description.source, heads[0]
    if not head.tree:
        for name, given in (("tree", tree), ("nodes", nodes)):
            if given is not None:
                raise OptionError(
                    name,
                    f"{name} is given, but the classes of {source} are no tree: leave it out",
                )
        return None, None
    if len(heads) > 1:
        raise InputError(f"{source} has {len(heads)} heads: a detector in a tree has one [region]")
    if tree is None:
        tree = read_word_tree(find_beside(head.tree, source))
    if len(tree) != head.num_classes:
        raise OptionError(
            "tree",
            f"tree has {len(tree)} nodes, but the [region] of {source} has {head.num_classes} "
            "classes: give a tree with a node for each",
        )
    if nodes is None and head.map:
        return tree, read_class_map(find_beside(head.map, source), tree)
    with option_errors("nodes"):
        return tree, tuple(tree.checked_nodes(nodes).tolist()) if nodes else None
