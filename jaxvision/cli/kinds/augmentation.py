"""The augmentation options that several kinds of tasks have."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from jaxvision import augment as aug
from jaxvision.core import check_range

Possible = tuple[Any, Callable[[], Any]]
"""Whether an augmentation is wanted, and what makes it."""


@dataclass(frozen=True)
class GeometryAndColor:
    """Moves, flips and changes of colour.

    Attributes:
      scale: least and largest factor.
      ratio: least and largest factor of width over height.
      translate: largest shift, as a share of the side.
      flip: probability that an image is mirrored left and right.
      hue: largest shift, in turns.
      saturation: largest factor.
      value: largest factor.
    """

    scale: tuple[float, float] = (1.0, 1.0)
    ratio: tuple[float, float] = (1.0, 1.0)
    translate: float = 0.0
    flip: float = 0.0
    hue: float = 0.0
    saturation: float = 1.0
    value: float = 1.0

    def __post_init__(self) -> None:
        check_range("flip", self.flip, least=0, most=1)

    def move(self, **rule: float) -> Possible:
        """The scaling and shifting; `rule` says when boxes are dropped."""
        moves = {"scale": self.scale, "ratio": self.ratio, "translate": self.translate}
        wanted = tuple(moves.values()) != ((1, 1), (1, 1), 0)
        return wanted, partial(aug.ScaleTranslate, **moves, **rule)

    def mirror(self, **how: Any) -> Possible:
        """The flip; `how` are further options of it."""
        return self.flip, partial(aug.RandomFlip, probability=self.flip, **how)

    def color(self) -> Possible:
        """The change of colours."""
        colors = {"hue": self.hue, "saturation": self.saturation, "value": self.value}
        return tuple(colors.values()) != (0, 1, 1), partial(aug.RandomHsv, **colors)


def wanted_of(*possible: Possible) -> tuple[Any, ...]:
    """The augmentations that are wanted, in their order."""
    return tuple(make() for wanted, make in possible if wanted)
