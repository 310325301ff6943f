"""From raw records to examples for classification."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from jaxvision.core import ClassificationBatch, InputError, check_range, lookup
from jaxvision.data.sources.source import Record, Subset, image_of

RESIZE = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
"""Ways to bring an image to another size; all but nearest are antialiased when shrinking."""


_Window = tuple[int, int, int, int]
"""(top, left, height, width) of a part of an image."""


def _resize(
    image: np.ndarray, size: tuple[int, int], method: str, window: _Window | None = None
) -> np.ndarray:
    """An image, or a window of it, in another size (height, width)."""
    top, left, height, width = window or (0, 0, *image.shape[:2])
    box = (left, top, left + width, top + height)
    channels = [
        np.asarray(Image.fromarray(image[:, :, c]).resize(size[::-1], RESIZE[method], box=box))
        for c in range(image.shape[2])
    ]
    return np.stack(channels, axis=-1)


def random_window(
    size: tuple[int, int],
    rng: np.random.RandomState,
    *,
    scale: tuple[float, float],
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> _Window:
    """A window of a random size, form and place within an image.

    The share of the area is uniform, and so is the logarithm of width over height. After ten draws
    that do not fit within the image it is the largest window in the middle whose form is allowed.

    Args:
      size: (height, width) of the image.
      rng: what draws.
      scale: least and largest share of the image's area.
      ratio: least and largest width over height.
    Source: Szegedy et al. 2015 ("Going deeper with convolutions"), section 6.
    """
    height, width = size
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        form = math.exp(rng.uniform(*np.log(ratio)))
        w, h = round(math.sqrt(area * form)), round(math.sqrt(area / form))
        if 0 < w <= width and 0 < h <= height:
            return rng.randint(height - h + 1), rng.randint(width - w + 1), h, w
    form = min(max(width / height, ratio[0]), ratio[1])
    w, h = min(width, round(height * form)), min(height, round(width / form))
    return (height - h) // 2, (width - w) // 2, h, w


def check_crop_scale(scale: Sequence[float]) -> None:
    """Raises InputError unless these are the least and the largest share of an image's area."""
    if len(scale) != 2:
        raise InputError(
            f"config.augment.crop_scale is {scale}: give the least and the largest share of the "
            "area, as (0.08, 1.0)"
        )
    least, largest = scale
    check_range("the largest config.augment.crop_scale", largest, more_than=0, most=1)
    check_range("the least config.augment.crop_scale", least, more_than=0, most=largest)


def check_label(label: int, num_classes: int, where: str) -> None:
    """Raises InputError if a label is none of the classes; `where` names its record."""
    if not 0 <= label < num_classes:
        raise InputError(
            f"{where}: label {label} is out of range 0..{num_classes - 1}: mend the record or set "
            "config.data.num_classes"
        )


def check_labels(labels: np.ndarray, num_classes: int, where: Callable[[int], str]) -> None:
    """As `check_label`, all labels of a source, int[N], and its `where`."""
    for index in np.flatnonzero((labels < 0) | (labels >= num_classes)):
        check_label(labels[index], num_classes, where(int(index)))


def few_of_each(source: Subset, count: int, class_names: Sequence[str | int]) -> Subset:
    """As many random records of each class, the same ones on every call and every machine.

    Those for a smaller count are among those for a larger one.

    Args:
      source: of which `labels` are known.
      count: records of each class, at least 1.
      class_names: of all classes, for messages.
    Returns:
      count * len(class_names) records, in the source's order.
    Raises:
      InputError: a label is out of range, or a class has fewer records.
    """
    check_labels(source.labels, len(class_names), source.where)
    labels = source.labels.astype(np.int64)
    have = np.bincount(labels, minlength=len(class_names))
    if have.min() < count:
        raise InputError(
            f"class {class_names[have.argmin()]} has {have.min()} images to train on, fewer than "
            f"config.data.per_class={count}: lower that, or add images"
        )
    # RandomState's stream is frozen by numpy's compatibility policy; a Generator's is not.
    order = np.random.RandomState(0).permutation(len(source))
    order = order[np.argsort(labels[order], kind="stable")]  # class by class
    starts = np.cumsum(have) - have
    return Subset(source, np.sort(order[starts[:, None] + np.arange(count)], axis=None))


@dataclass(frozen=True)
class ToClassificationExample:
    """Checks a record and makes it an example of the network's size.

    Attributes:
      image_size: height and width of the result.
      channels: 1 (grey) or 3 (RGB).
      num_classes: labels run from 0 to one below.
      resize: a key of `RESIZE`; None refuses images of another size.
      shorter_side: pixels to which the shorter side is resized, before the middle is cut out;
        None: the whole image is resized.
      crop_scale: in training, least and largest share of the image that a random window shows,
        which is resized instead, see `random_window`; None: no window.

    Raises:
      InputError: a size or number below 1, a shorter side below that of the result, an unknown way
        to resize, or one that is needed and missing.
    """

    image_size: int
    channels: int
    num_classes: int
    resize: str | None = None
    shorter_side: int | None = None
    crop_scale: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        check_range("config.data.image_size", self.image_size, least=1)
        check_range("config.data.num_classes", self.num_classes, least=1)
        if self.resize is not None:
            lookup(RESIZE, self.resize, "config.data.resize")
        elif self.shorter_side is not None or self.crop_scale is not None:
            raise InputError(f"set config.data.resize to one of {', '.join(RESIZE)}")
        if self.shorter_side is not None:
            check_range("config.data.shorter_side", self.shorter_side, least=self.image_size)
        if self.crop_scale is not None:
            check_crop_scale(self.crop_scale)

    def __call__(
        self, record: Record, where: str, rng: np.random.RandomState | None = None
    ) -> ClassificationBatch:
        """One example: a `ClassificationBatch` without its batch axis.

        Args:
          record: "image" u8[H, W, C] and "label" int.
          where: names the record in messages.
          rng: what draws the window, if there is to be one.
        Raises:
          InputError: wrong size, channels or label.
        """
        image, label = image_of(record, where, channels=None), record["label"]
        if image.shape[2] != self.channels:
            raise InputError(
                f"{where}: the image has {image.shape[2]} channels instead of {self.channels}: "
                f"set config.data.channels={image.shape[2]}"
            )
        target = (self.image_size, self.image_size)
        if rng is not None and self.crop_scale is not None:
            window = random_window(image.shape[:2], rng, scale=self.crop_scale)
            image = _resize(image, target, self.resize, window)
        elif self.shorter_side is not None:
            image = self._middle(image)
        elif image.shape[:2] != target:
            if self.resize is None:
                raise InputError(
                    f"{where}: the image is {image.shape[0]}x{image.shape[1]} instead of "
                    f"{self.image_size}x{self.image_size}: set config.data.image_size, or "
                    f"config.data.resize to one of {', '.join(RESIZE)}"
                )
            image = _resize(image, target, self.resize)
        check_label(label, self.num_classes, where)
        return ClassificationBatch(
            image=image,
            label=np.int32(label),
            weight=np.float32(record.get("weight", 1.0)),
            mask=np.True_,
        )

    def _middle(self, image: np.ndarray) -> np.ndarray:
        """The middle of the image, whose shorter side is resized first."""
        factor = self.shorter_side / min(image.shape[:2])
        # Of the longer side a part of a pixel is left out, as torchvision does.
        sides = tuple(max(self.shorter_side, int(side * factor)) for side in image.shape[:2])
        image = _resize(image, sides, self.resize)
        top, left = (round((side - self.image_size) / 2) for side in sides)
        return image[top : top + self.image_size, left : left + self.image_size]
