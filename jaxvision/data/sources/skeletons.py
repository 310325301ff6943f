"""The keypoints of objects: names, mirrored counterparts, and the limbs between them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from jaxvision.core import InputError, one_line

_SIDES = {"left": "right", "right": "left"}


@dataclass(frozen=True)
class Skeleton:
    """The keypoints of the objects of a data set.

    Attributes:
      names: of the K keypoints.
      limbs: pairs of keypoints, indices into `names`, between which a line is drawn.
    Raises:
      InputError: a name is given twice, or a limb is not a pair of different keypoints.
    """

    names: tuple[str, ...]
    limbs: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "limbs", tuple(map(tuple, self.limbs)))
        for number, name in enumerate(self.names):
            if name in self.names[:number]:
                raise InputError(f"two keypoints have the name {one_line(name)!r}: give another")
        for number, limb in enumerate(self.limbs):
            if len(set(limb)) != 2 or len(limb) != 2 or not set(limb) <= set(range(len(self))):
                raise InputError(
                    f"limbs[{number}] is {limb}: give the indices of two of the {len(self)} "
                    "keypoints"
                )

    def __len__(self) -> int:
        return len(self.names)

    @property
    def swap(self) -> tuple[int, ...]:
        """For each keypoint the index of its mirrored counterpart, by the names.

        It is the keypoint whose name has "right" in place of "left" or "left" in place of "right",
        or the keypoint itself where there is none. It is the option `swap` of `RandomFlip`.
        """
        return mirrored(self.names)


def mirrored(names: Sequence[str]) -> tuple[int, ...]:
    """Returns for each name the index of the one with left and right exchanged, or its own."""
    index = {name: number for number, name in enumerate(names)}
    others = (re.sub("left|right", lambda side: _SIDES[side[0]], name) for name in names)
    return tuple(index.get(other, index[name]) for name, other in zip(names, others, strict=True))


COCO_SKELETON = Skeleton(
    names=(
        *("nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder"),
        *("right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip"),
        *("right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle"),
    ),
    limbs=(
        *((15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7)),
        *((6, 8), (7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)),
    ),
)
"""The 17 keypoints of COCO's persons, as in its person_keypoints files."""
