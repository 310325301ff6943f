"""The data of detection on the command line: options, and the sources that they choose."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxvision import data
from jaxvision.cli.kinds.kind import ResizedData
from jaxvision.core import OptionError, check_range
from jaxvision.tasks.detection_metrics import CONFUSION_SCORE


@dataclass(frozen=True)
class DetectionData(ResizedData):
    """The data of detection.

    Attributes:
      source: "scenes" or "single_scenes" (embedded; the latter have one object each), "voc",
        "coco", "yolo" or "instances" (folders in these forms), or "tfds".
      class_names: of the labels, in their order; (): those of the data.
      drop_bad: leave out records with bad boxes or images, and count them.
      drop_empty: leave out training images without objects (folders).
      difficult: train on objects that are flagged as difficult too.
      first_pixel: voc: what the files call an image's first pixel.
      masks: read the masks of the objects too.
      mask_size: cells along each side of a mask, which is cropped to its object, in training.
      keypoints: read the keypoints of the objects too (coco and embedded scenes).
      labels_only: scenes: names of classes that have no boxes in training. Training scenes with
        them are left out; instead there are scenes with one object each, of these classes, as
        images with labels alone.
      max_boxes: number to which the boxes of an image are padded.
      drop_extra: of an image with more than max_boxes objects train on the largest ones, and say
        how many are left out, instead of refusing it; an evaluation counts all objects.
      proposals: file of region proposals, see jaxvision.data.write_proposals; {split} in its name
        stands for the split.
      max_proposals: number to which the proposals of an image are padded; the first ones are taken.
      sizes: multi-scale training: sizes instead of image_size, or of shorter_side where resize is
        that, drawn at random.
      size_every: batches between two draws of the size.
      mean: one number for each channel, of values in 0..1.
      std: likewise.
      voc_inclusive: mAP_VOC adds 1 to the widths and heights of detections, as VOC's kit does.
      confusion_score: least score of a detection in the confusion matrix.
    """

    source: str = "scenes"
    class_names: tuple[str, ...] = ()
    drop_bad: bool = False
    drop_empty: bool = False
    difficult: bool = False
    first_pixel: int = 1
    masks: bool = False
    mask_size: int = 112
    keypoints: bool = False
    resize: str | None = "letterbox"
    labels_only: tuple[str, ...] = ()
    max_boxes: int = 100
    drop_extra: bool = False
    proposals: str = ""
    max_proposals: int = 2000
    sizes: tuple[int, ...] = ()
    size_every: int = 10
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    voc_inclusive: bool = False
    confusion_score: float = CONFUSION_SCORE

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("mask_size", self.mask_size, least=1)
        check_range("max_boxes", self.max_boxes, least=1)
        check_range("max_proposals", self.max_proposals, least=1)
        check_range("size_every", self.size_every, least=1)
        check_range("confusion_score", self.confusion_score, least=0, most=1)
        if self.labels_only and self.validation_fraction:
            raise OptionError(
                "validation_fraction",
                f"validation_fraction is {self.validation_fraction}, but some training images have "
                "labels alone, which average precision cannot be measured by: set it to 0",
            )
        for name in self.class_names:
            if "," in name:
                parts = tuple(part.strip() for part in name.split(","))
                raise OptionError(
                    "class_names", f"class_names has {name!r}: give {parts}, in quotes"
                )


def _scenes(options: DetectionData, split: str) -> data.Source:
    if options.masks and options.keypoints:
        raise OptionError("masks", "masks are not read of scenes with keypoints: leave one out")
    kind = "instances" if options.masks else "keypoints" if options.keypoints else "detection"
    single = options.source == "single_scenes"
    scenes: data.Source = data.Scenes(split, kind=kind, dir=options.dir, single=single)
    if options.labels_only and split == "train":
        scenes = _with_labels_only(scenes, options)
    return _with_proposals(scenes, options, split)


def _with_labels_only(scenes: data.Source, options: DetectionData) -> data.Source:
    """Scenes without objects of some classes, and scenes of one such object without its box."""
    names = scenes.class_names
    for name in options.labels_only:
        if name not in names:
            raise OptionError(
                "labels_only", f"labels_only has {name!r}: give some of {', '.join(names)}"
            )
    without = [names.index(name) for name in options.labels_only]

    def having(source: data.Source) -> np.ndarray:
        """bool[N]: the records with an object of these classes."""
        targets = (source.target(index) for index in range(len(source)))
        return np.array([np.isin(target["labels"], without).any() for target in targets])

    single = data.Scenes("train", dir=options.dir, single=True)
    located = data.Subset(scenes, np.flatnonzero(~having(scenes)))
    labelled = data.Subset(single, np.flatnonzero(having(single)))
    return data.Joined([located, data.LabelsOnly(labelled)])


def _form(options: DetectionData, split: str) -> data.Source:
    """A folder in a known form."""
    drop_empty = options.drop_empty and split == "train"
    source = _with_proposals(_folder(options, split), options, split)
    return data.Subset(source, np.flatnonzero(source.box_counts)) if drop_empty else source


def _with_proposals(source: data.Source, options: DetectionData, split: str) -> data.Source:
    """A source, with the proposals of the file that the options name."""
    if not options.proposals:
        return source
    path = options.proposals.replace("{split}", options.own_split(split))
    return data.WithProposals(source, path)


def _folder(options: DetectionData, split: str) -> data.Source:
    names, own = options.class_names or None, options.own_split(split)
    how: dict[str, Any] = {"drop_bad": options.drop_bad}
    readers = {"masks": ("coco", "yolo", "instances"), "keypoints": ("coco",)}
    for name, sources in readers.items():
        if getattr(options, name) and options.source not in sources:
            raise OptionError(name, f"{name} are not read of {options.source}: leave it out")
    if options.source == "voc":
        how |= {"class_names": names, "first_pixel": options.first_pixel}
        return data.VocFolder(options.folder, own, **how)
    how |= {"masks": options.masks}
    if options.source == "coco":
        return data.CocoFolder(options.folder, own, keypoints=options.keypoints, **how)
    folder = {"yolo": data.YoloFolder, "instances": data.InstanceFolder}[options.source]
    return folder(options.folder, own, class_names=names, **how)


def _tfds(options: DetectionData, split: str) -> data.Source:
    if not options.name:
        raise OptionError("name", "name is not set: give a TFDS data set, such as voc/2007")
    if options.drop_bad:
        raise OptionError(
            "drop_bad",
            "drop_bad has no effect on TFDS data sets, whose records are checked as they are read: "
            "leave it out",
        )
    own = options.own_split(split)
    source = data.Tfds(options.name, own, dir=options.dir, kind="detection")
    return _with_proposals(source, options, split)


SOURCES = {
    "scenes": _scenes,
    "single_scenes": _scenes,
    "voc": _form,
    "coco": _form,
    "yolo": _form,
    "instances": _form,
    "tfds": _tfds,
}
"""Name of a source -> function of the options and a split."""
