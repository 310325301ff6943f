"""From records to examples for landmarks."""

from dataclasses import dataclass

import numpy as np

from jaxvision.core import InputError, Inputs, LandmarkBatch, Record, check_range
from jaxvision.data.sources.checks import check_class_count
from jaxvision.data.sources.source import Source
from jaxvision.data.transforms.placing import (
    checked_image,
    extent_in,
    place_image,
    points_inside,
)
from jaxvision.ops.placement import to_input


@dataclass(frozen=True)
class ToLandmarks:
    """Checks a record and makes it an example for landmarks.

    With `inputs.resize` "crop" landmarks outside the network's input are not visible.

    Attributes:
      inputs: of the network.
      num_landmarks: K, that every record has, visible or not.

    Raises:
      OptionError: `num_landmarks` is below 1.
    """

    inputs: Inputs
    num_landmarks: int

    def __post_init__(self) -> None:
        check_range("num_landmarks", self.num_landmarks, least=1)

    def check_source(self, source: Source) -> None:
        """Raises OptionError if a source has other landmarks, before any image is read."""
        check_class_count(source, self.num_landmarks, option="num_landmarks", what="landmarks")

    def __call__(
        self, record: Record, where: str, *, size: tuple[int, int] | None = None
    ) -> LandmarkBatch:
        """Returns one example: a `LandmarkBatch` without its batch axis.

        Args:
          record: "image" u8[H, W, C], "points" f[K, 2] (xy) in its pixels and "visible" bool[K].
          where: names the record in messages.
          size: (height, width) of the network's input; None: that of `inputs.size_of`.
        Raises:
          InputError: the image has another form, there are more or fewer landmarks, or a visible
            one is outside the image.
        """
        original = checked_image(record, where, self.inputs).shape[:2]
        points, visible = np.asarray(record["points"]), np.asarray(record["visible"])
        if points.shape != (self.num_landmarks, 2) or visible.shape != points.shape[:1]:
            raise InputError(
                f"{where}: points are {list(points.shape)} and visible {list(visible.shape)}, not "
                f"[{self.num_landmarks}, 2] and [{self.num_landmarks}]: correct the record or "
                "class_names"
            )
        points = np.where(visible[:, None], points, 0)
        outside = ~points_inside(points, original)
        if outside.any():
            number = np.flatnonzero(outside)[0]
            x, y = points[number]
            raise InputError(
                f"{where}: landmark {number} is at ({x:g}, {y:g}), outside the image of "
                f"{original[1]} x {original[0]} pixels: correct the record"
            )
        image, placement = place_image(record, where, self.inputs, size)
        points = to_input(np.tile(points, 2), placement)[:, :2]
        if self.inputs.resize == "crop":
            visible = visible & points_inside(points, self.inputs.size)
        return LandmarkBatch(
            image=image,
            points=np.where(visible[:, None], points, 0).astype(np.float32),
            visible=visible,
            mask=np.True_,
            extent=extent_in(self.inputs, image, placement, original),
            placement=np.array(placement, np.float32),
            size=np.array(original, np.int32),
        )
