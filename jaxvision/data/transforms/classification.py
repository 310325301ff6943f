"""From records to examples for classification."""

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

import numpy as np

from jaxvision.core import ClassificationBatch, Inputs, OptionError, Record, check_range
from jaxvision.data.sources.checks import check_class_count, check_label, check_labels
from jaxvision.data.sources.source import Source
from jaxvision.data.transforms.placing import (
    Window,
    checked_image,
    extent_in,
    place_image,
    resize_for,
)
from jaxvision.ops.placement import Placement


def random_window(
    size: tuple[int, int],
    rng: np.random.RandomState,
    *,
    scale: tuple[float, float],
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Window:
    """Draws a window of a random size, aspect ratio and place within an image.

    Its part of the area is uniform, and so is the logarithm of width over height. After ten draws
    that do not fit within the image it is the largest window in the middle whose ratio is allowed.

    Args:
      size: (height, width) of the image.
      rng: draws the numbers.
      scale: least and largest part of the image's area.
      ratio: least and largest width over height.
    Returns:
      (top, left, height, width).
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
    """Raises OptionError unless these are the least and the largest part of an image's area."""
    if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
        raise OptionError(
            "crop_scale",
            f"crop_scale is {scale}: give the least and the largest part of the area, more than 0 "
            "and at most 1, as (0.08, 1.0)",
        )


@dataclass(frozen=True)
class ToClassification:
    """Checks a record and makes it an example for classification.

    Attributes:
      inputs: of the network.
      num_classes: labels run from 0 to one below.
      crop_scale: least and largest part of the image's area that a random window shows, which is
        resized instead of the image where a loader passes `rng` (see `RandomTransform` and
        `random_window`), as `resize_image` does; None: no window.

    Raises:
      OptionError: `num_classes` is below 1, `crop_scale` is not within 0..1, or it is set and
        `inputs.resize` is None or pads.
    """

    inputs: Inputs
    num_classes: int
    _: KW_ONLY
    crop_scale: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        check_range("num_classes", self.num_classes, least=1)
        if self.crop_scale is not None:
            check_crop_scale(self.crop_scale)
            if self.inputs.resize is None or self.inputs.pads:
                raise OptionError(
                    "crop_scale",
                    f"crop_scale is {self.crop_scale}, but resize is {self.inputs.resize}: set "
                    "resize to one of stretch, letterbox, crop",
                )

    def check_source(self, source: Source) -> None:
        """Raises InputError if a source has other classes, before any image is read."""
        check_class_count(source, self.num_classes)
        names = getattr(source, "class_names", ())
        if not names and getattr(source, "labels", None) is not None:
            check_labels(source, self.num_classes)

    def __call__(
        self,
        record: Record,
        where: str,
        rng: np.random.RandomState | None = None,
        *,
        size: tuple[int, int] | None = None,
    ) -> ClassificationBatch:
        """Returns one example: a `ClassificationBatch` without its batch axis.

        Args:
          record: "image" u8[H, W, C], "label" int, and perhaps "weight".
          where: names the record in messages.
          rng: draws the window, if there is one.
          size: (height, width) of the network's input; None: that of `inputs.size_of`.
        Raises:
          InputError: the image has another size or other channels, or the label is out of range.
        """
        check_label(record["label"], self.num_classes, where)
        if rng is not None and self.crop_scale is not None:
            image, placement = self._window(record, where, rng), Placement(1, 1, 0, 0)
        else:
            image, placement = place_image(record, where, self.inputs, size)
        return ClassificationBatch(
            image=image,
            label=np.int32(record["label"]),
            weight=np.float32(record.get("weight", 1.0)),
            mask=np.True_,
            extent=extent_in(self.inputs, image, placement, np.shape(record["image"])[:2]),
        )

    def _window(self, record: Record, where: str, rng: np.random.RandomState) -> np.ndarray:
        image = checked_image(record, where, self.inputs)
        window = random_window(image.shape[:2], rng, scale=self.crop_scale)
        return resize_for(image, self.inputs.size, self.inputs, window=window)
