"""Classification: one class an image."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array

from jaxvision.core import (
    ClassificationBatch,
    DatasetMetric,
    Inputs,
    OptionError,
    Record,
    Summary,
    Task,
    Terms,
    check_range,
    describe,
    restore,
)
from jaxvision.losses import cross_entropy, word_tree_cross_entropy
from jaxvision.metrics import (
    calibration,
    class_scores,
    top_k_accuracy,
)
from jaxvision.ops import WordTree, word_tree_log_probabilities
from jaxvision.tasks.building import (
    as_terms,
    augment_of,
    check_augment,
    check_loss,
    check_map,
    confusion_tables,
    described,
    forward_of,
    init_of,
    maps_of_image,
    names_of,
    prepare_of,
    synchronised,
    with_key_and_step,
)
from jaxvision.tasks.names import NAMES


def classification(
    model: nn.Module,
    inputs: Inputs,
    *,
    class_names: Sequence[str] | int,
    loss: Callable[..., Any] | None = cross_entropy,
    augment: Sequence[Any] = (),
    top_k: Sequence[int] | None = None,
    tree: WordTree | None = None,
    sync_batch_norm: bool = True,
) -> Task:
    """Creates the task of telling which of several classes an image shows.

    `decode` gives "label", i32[], and "probabilities", f32[K]. The metrics are "accuracy", for each
    other k of `top_k` "topK_accuracy", such as "top5_accuracy", and "ece", the expected calibration
    error. The tables of an evaluation are "class_support", "class_precision", "class_recall" and
    "class_f1", each [K]; "confused_pairs", i64[P, 3], see `jaxvision.metrics.confused_pairs`; of at
    most 2,000 classes "confusions", i64[K, K], with a row for each true class; and "bin_count",
    "bin_confidence" and "bin_accuracy", each [15], see `jaxvision.metrics.calibration`.

    Args:
      model: a network that gives "logits", f32[B, K].
      inputs: size, normalisation and resizing of the images.
      class_names: of the K classes, in the order of the labels; or K.
      loss: (logits f32[K], target) -> (total, weight), or named pairs of that form. The target is
        a class, i32[], or a distribution, f32[K], where an augmentation mixes examples. It gets
        `key` and `step` too, if its signature names them. None: a task for evaluation only.
      augment: augmentations, see `jaxvision.augment`, one after the other.
      top_k: numbers of guesses, of which one must be right. None: 1, and 5 if there are more than
        5 classes.
      tree: of N nodes, the classes among them by their names. The network gives "logits",
        f32[B, N], whose hierarchical softmax has the probabilities of the nodes, see
        `jaxvision.ops.word_tree_log_probabilities`. The loss gets logits f32[N], and a node as
        target; in place of `cross_entropy` it is `jaxvision.losses.word_tree_cross_entropy`.
        None: the classes exclude each other.
      sync_batch_norm: whether batch norms use the statistics of the batches of all devices, so that
        losses do not depend on the number of devices. False: those of each device's part, which
        saves two all-reduces a norm; the running statistics are the means over the devices.
    Raises:
      OptionError: an option is out of range, or does not fit the others.
    """
    class_names = names_of(class_names)
    nodes = None if tree is None else _nodes_of(tree, class_names)
    num_logits = len(class_names) if tree is None else len(tree)
    if tree is not None and loss is cross_entropy:
        loss = partial(word_tree_cross_entropy, tree=tree)
    num_classes = len(class_names)
    if top_k is None:
        top_k = (1, 5) if num_classes > 5 else (1,)
    top_k = tuple(top_k)
    for k in top_k:
        check_range("top_k", k, least=1, most=num_classes)
    maps = maps_of_image(model, inputs.shape)
    check_map(maps, "logits", num_logits, "classes" if tree is None else "nodes of the tree")
    network, augmentation = synchronised(model, sync_batch_norm), augment_of(augment)
    task_loss = None
    if loss is not None:
        _check_loss(loss, num_logits, soft=_mixes(augmentation, inputs, num_classes))
        task_loss = _loss_of(loss, nodes)

    def of_classes(outputs: Any) -> Array:
        """The logits of the classes; in a tree, the logarithms of their probabilities."""
        if tree is None:
            return outputs["logits"]
        return word_tree_log_probabilities(outputs["logits"], tree=tree, nodes=nodes)

    def decode(outputs: Any, example: Any) -> dict[str, Array]:
        del example
        probabilities = jax.nn.softmax(of_classes(outputs))
        return {"label": jnp.argmax(probabilities), "probabilities": probabilities}

    def collect(outputs: Any, example: ClassificationBatch) -> dict[str, Array]:
        return _collect(of_classes(outputs), example)

    def metrics(outputs: Any, example: ClassificationBatch) -> Terms:
        names = {k: "accuracy" if k == 1 else f"top{k}_accuracy" for k in top_k}
        return {
            name: top_k_accuracy(of_classes(outputs), example.label, k=k)
            for k, name in names.items()
        }

    def summarize(collected: Any, records: Sequence[Record]) -> Summary:
        del records
        return _summarize(collected, num_classes)

    forward = forward_of(network)
    return Task(
        init=init_of(network, inputs.shape),
        augment=augmentation,
        prepare=prepare_of(inputs),
        forward=forward,
        loss=task_loss,
        metrics=metrics,
        decode=decode,
        kind="classification",
        inputs=inputs,
        class_names=class_names,
        dataset_metric=DatasetMetric(("ece",), collect, summarize, needs_records=False),
        partners=augmentation.partners,
        sync_batch_norm=sync_batch_norm,
        origin={
            "inputs": (inputs, describe(inputs, NAMES)),
            "forward": (forward, described(model=model)),
            "loss": (task_loss, described(loss=loss)),
            "augment": (augmentation, described(augment=tuple(augment))),
            "metrics": (metrics, {"top_k": list(top_k)}),
            "decode": (decode, described(tree=tree)),
        },
    )


def restore_classification(parts: Mapping[str, Any]) -> Task:
    """The task for evaluation that a description tells of: without loss and augmentation.

    Args:
      parts: "inputs", "class_names", "forward" and "metrics" of the description.
    Raises:
      InputError: the network has no name in the library.
    """
    return classification(
        restore(parts["forward"]["model"], NAMES),
        restore(parts["inputs"], NAMES),
        class_names=parts["class_names"],
        loss=None,
        top_k=parts["metrics"]["top_k"],
        tree=restore(parts.get("decode", {}).get("tree"), NAMES),
    )


def _nodes_of(tree: WordTree, class_names: Sequence[str]) -> tuple[int, ...]:
    """The nodes that have the names of the classes.

    Raises:
      OptionError: a class is no node.
    """
    for name in class_names:
        if name not in tree.index:
            raise OptionError(
                "tree", f"tree has no node {name!r}: give a tree that has all class_names"
            )
    return tuple(tree.index[name] for name in class_names)


def _collect(logits: Array, example: ClassificationBatch) -> dict[str, Array]:
    """The true class, the predicted one and its probability."""
    logits = logits.astype(jnp.float32)
    label = example.label if jnp.ndim(example.label) == 0 else jnp.argmax(example.label)
    return {
        "label": label,
        "predicted": jnp.argmax(logits),
        "confidence": jax.nn.softmax(logits).max(),
    }


def _summarize(collected: Mapping[str, np.ndarray] | None, num_classes: int) -> Summary:
    """The calibration error, and tables of the classes and of the bins of confidence."""
    if collected is None:  # there were no examples
        none = np.zeros(0, np.int32)
        collected = {"label": none, "predicted": none, "confidence": np.zeros(0, np.float32)}
    labels, predicted = collected["label"], collected["predicted"]
    of_classes = class_scores(labels, predicted, num_classes=num_classes)
    bins = calibration(labels, predicted, collected["confidence"], num_classes=num_classes)
    tables = {
        **confusion_tables(labels, predicted, num_classes),
        **{f"class_{name}": column for name, column in vars(of_classes).items()},
        **{f"bin_{name}": column for name, column in vars(bins).items()},
    }
    return Summary({"ece": bins.error}, tables)


def _loss_of(function: Callable[..., Any], nodes: tuple[int, ...] | None) -> Callable[..., Terms]:
    """The loss of the task; `nodes`: of the classes, where the loss gets nodes."""
    example_loss = with_key_and_step(function)

    def target_of(label: Array) -> Array:
        return label if nodes is None else jnp.array(nodes, jnp.int32)[label]

    def loss(outputs: Any, example: ClassificationBatch, *, key: Array, step: Array) -> Terms:
        target = target_of(example.label)
        result = example_loss(outputs["logits"], target, key=key, step=step)
        return {
            name: (example.weight * total, example.weight * weight)
            for name, (total, weight) in as_terms(result, "classification_loss").items()
        }

    return loss


def _check_loss(function: Callable[..., Any], num_classes: int, *, soft: bool) -> None:
    """Raises OptionError unless a loss takes logits and classes; `soft`: distributions too."""
    logits, term = jnp.zeros(num_classes), "classification_loss"
    check_loss("loss", function, logits, jnp.int32(0), term=term)
    if not soft:
        return
    # A loss of the user's own may raise anything where it does not know such targets.
    try:
        check_loss("loss", function, logits, logits, term=term)
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise OptionError(
            "augment",
            f"augment gives soft targets, f32[{num_classes}], which the loss does not take: use "
            f"cross_entropy ({reason})",
        ) from error


def _mixes(augmentation: Any, inputs: Inputs, num_classes: int) -> bool:
    """Whether an augmentation turns classes into distributions.

    Raises:
      OptionError: it fails, or they are distributions over another number of classes.
    """
    image = jnp.zeros(inputs.shape, jnp.uint8)
    example = ClassificationBatch(image, jnp.int32(0), jnp.float32(1), jnp.bool_(True))
    result = check_augment(augmentation, example)
    shape = result.label.shape
    if shape not in ((), (num_classes,)):
        raise OptionError(
            "augment",
            f"augment gives targets f32{list(shape)}, but there are {num_classes} class_names: set "
            f"its num_classes to {num_classes}",
        )
    return bool(shape)
