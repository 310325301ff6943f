"""From raw records to examples for landmarks."""

from dataclasses import dataclass

import numpy as np

from jaxvision.core import InputError, LandmarkBatch, check_range
from jaxvision.data.sources.source import Record, image_of
from jaxvision.data.transforms.placing import check_placing, place
from jaxvision.ops.placement import to_input


@dataclass(frozen=True)
class ToLandmarkExample:
    """Checks a record and makes it an example of the network's size.

    Attributes:
      image_size: (height, width) of the result.
      num_landmarks: K, that every record has, visible or not.
      resize: a key of `PLACEMENTS`: "letterbox" keeps the image's form, "stretch" does not.
      fill: what stands beside a letterboxed image.

    Raises:
      InputError: a number below 1, a fill that no pixel has, or an unknown way to resize.
    """

    image_size: tuple[int, int]
    num_landmarks: int
    resize: str = "letterbox"
    fill: int = 127

    def __post_init__(self) -> None:
        check_placing(self.image_size, method=self.resize, fill=self.fill)
        check_range("the number of config.data.class_names", self.num_landmarks, least=1)

    def __call__(self, record: Record, where: str) -> LandmarkBatch:
        """One example: a `LandmarkBatch` without its batch axis.

        Args:
          record: "image" u8[H, W, 3], "points" f[K, 2] (xy) in its pixels and "visible" bool[K].
          where: names the record in messages.
        Raises:
          InputError: an image of another form, another number of landmarks, or a visible one
            outside the image.
        """
        image, points = image_of(record, where), np.asarray(record["points"])
        visible = np.asarray(record["visible"])
        if points.shape != (self.num_landmarks, 2) or visible.shape != points.shape[:1]:
            raise InputError(
                f"{where}: points are {list(points.shape)} and visible {list(visible.shape)}, not "
                f"[{self.num_landmarks}, 2] and [{self.num_landmarks}]: mend the record or "
                "config.data.class_names"
            )
        points = np.where(visible[:, None], points, 0)
        sides = np.array(image.shape[1::-1])
        outside = ~((points >= 0) & (points <= sides)).all(axis=1)
        if outside.any():
            number = np.flatnonzero(outside)[0]
            x, y = points[number]
            raise InputError(
                f"{where}: landmark {number} is at ({x:g}, {y:g}), outside the image of "
                f"{sides[0]} x {sides[1]} pixels: mend the record"
            )
        placed, placement = place(image, self.image_size, method=self.resize, fill=self.fill)
        points = to_input(np.tile(points, 2), placement)[:, :2]
        return LandmarkBatch(
            image=placed,
            points=np.where(visible[:, None], points, 0).astype(np.float32),
            visible=visible,
            mask=np.True_,
            placement=np.array(placement, np.float32),
        )
