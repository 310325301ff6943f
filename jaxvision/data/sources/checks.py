"""Whether the labels, boxes and classes of a source fit the options, before any image is read."""

from collections.abc import Sequence

import numpy as np

from jaxvision.core import InputError, OptionError, listed
from jaxvision.data.sources.source import Source


def check_label(label: int, num_classes: int, where: str, *, option: str = "num_classes") -> None:
    """Raises InputError if a label is not one of the classes.

    Args:
      label: of a record.
      num_classes: labels run from 0 to one below.
      where: names the record.
      option: that gives the classes, for the message.
    """
    if not 0 <= label < num_classes:
        raise InputError(
            f"{where}: label {label} is out of range 0..{num_classes - 1}: correct the record or "
            f"set {option}"
        )


def check_labels(source: Source, num_classes: int, *, option: str = "num_classes") -> None:
    """Raises InputError if a record of a source has a label that is not one of the classes.

    Args:
      source: with `labels`.
      num_classes: labels run from 0 to one below.
      option: that gives the classes, for the message.
    """
    labels = np.asarray(source.labels)
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if wrong.size:
        index = int(wrong[0])
        check_label(labels[index], num_classes, source.where(index), option=option)


def check_class_count(
    source: Source, count: int, *, option: str = "num_classes", what: str = "classes"
) -> None:
    """Raises OptionError if a source knows its classes and there are more or fewer of them.

    Args:
      source: of which `class_names` are compared, if there are any.
      count: of the classes that are expected.
      option: that gave the count.
      what: the names are of, "classes" or "landmarks".
    """
    names = getattr(source, "class_names", ())
    if names and len(names) != count:
        raise OptionError(
            option,
            f"{option} is {count}, but the data has {len(names)} {what}: {listed(names)}",
        )


def check_class_names(own: Sequence[str], class_names: Sequence[str], *, what: str = "") -> None:
    """Raises OptionError if data has other classes than those that are expected.

    Args:
      own: class names of the data, such as `source.class_names`; () if they are not known.
      class_names: those that are expected; () if any will do.
      what: the data, for the message.
    """
    if own and class_names and tuple(own) != tuple(class_names):
        of = f" of {what}" if what else " of the data"
        raise OptionError(
            "class_names",
            f"class_names is {listed(class_names)}, but the classes{of} are {listed(own)}: "
            "leave it out, or give the same names in the same order",
        )


def check_box_count(count: int, max_boxes: int, where: str) -> None:
    """Raises OptionError if a record has more boxes than `max_boxes`.

    Args:
      count: of its boxes.
      max_boxes: the largest number allowed.
      where: names the record.
    """
    if count > max_boxes:
        raise OptionError(
            "max_boxes",
            f"max_boxes is {max_boxes}, but {where} has {count} boxes: give {count}, or leave out "
            "the smallest ones with drop_extra=True",
        )


def check_box_counts(source: Source, max_boxes: int) -> None:
    """Raises OptionError if a record of a source has more boxes than `max_boxes`.

    The message names the record with the most boxes.

    Args:
      source: if it has no `box_counts`, nothing is checked here, but each record as it is read.
      max_boxes: the largest number allowed.
    """
    counts = getattr(source, "box_counts", None)
    if counts:
        most = max(counts)
        check_box_count(most, max_boxes, source.where(counts.index(most)))


def extra_boxes(source: Source, max_boxes: int) -> str | None:
    """Tells how many boxes of a source are more than `max_boxes` of their records, as a sentence.

    Args:
      source: if it has no `box_counts`, the target of each record is read.
      max_boxes: how many boxes of a record are kept.
    Returns:
      the numbers of boxes and records, and the record with the most boxes; None: there are none.
    """
    counts = getattr(source, "box_counts", None)
    if counts is None:
        counts = [len(source.target(index)["labels"]) for index in range(len(source))]
    counts = np.asarray(counts, np.int64)
    extra = np.maximum(counts - max_boxes, 0)
    if not extra.any():
        return None
    most = int(counts.argmax())
    return (
        f"max_boxes is {max_boxes}: examples lack {extra.sum()} of {counts.sum()} objects, the "
        f"smallest ones, in {(extra > 0).sum()} of {len(counts)} images ({source.where(most)} has "
        f"{counts[most]}); the average precision counts all objects"
    )
