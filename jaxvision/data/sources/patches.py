"""Squares of photographs for restoration: random ones to train on, tiles to measure on."""

import numpy as np

from jaxvision.core import InputError, OptionError, Record, check_range
from jaxvision.data.sources.source import Source, image_of, size_of
from jaxvision.data.sources.subsets import Cached
from jaxvision.data.sources.tiles import cut_tile, tile_origins

_KEPT = 4  # photographs that are kept decoded


class RandomPatches:
    """A source of squares of photographs, `count` of each, at places that stay the same.

    Args:
      photographs: a source of records with "image" u8[H, W, C].
      size: pixels a side.
      count: of each photograph.

    Attributes:
      class_names: those of the photographs.
    Raises:
      OptionError: a number below 1.
    """

    def __init__(self, photographs: Source, *, size: int, count: int):
        check_range("size", size, least=1)
        check_range("count", count, least=1)
        self._photographs, self._size, self._count = Cached(photographs, most=_KEPT), size, count

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._photographs.class_names

    def __len__(self) -> int:
        return len(self._photographs) * self._count

    def __getitem__(self, index: int) -> Record:
        """Returns a record: "image" u8[S, S, C], and what `target` returns.

        Raises:
          InputError: the photograph is smaller than the square.
        """
        number = index // self._count
        image = image_of(self._photographs[number], self.where(index))
        target = self._target(index, image.shape[:2])
        return {"image": cut_tile(image, target["origin"], self._size), **target}

    def where(self, index: int) -> str:
        return self._photographs.where(index // self._count)

    def target(self, index: int) -> Record:
        """Returns "origin" (row, column) and "size" (height, width) of the photograph, its number
        "photograph", and the number "seed"."""
        return self._target(index, size_of(self._photographs, index // self._count))

    def _target(self, index: int, size: tuple[int, int]) -> Record:
        if min(size) < self._size:
            raise InputError(
                f"{self.where(index)} has {size[1]} x {size[0]} pixels, fewer than a patch: leave "
                f"it out, or lower size from {self._size}"
            )
        # RandomState's stream is frozen by numpy's compatibility policy.
        rng = np.random.RandomState(index)
        origin = tuple(rng.randint(side - self._size + 1) for side in size)
        number = index // self._count
        return {"origin": origin, "size": size, "photograph": number, "seed": index}


class Tiles:
    """A source of tiles that cover photographs, see `tile_origins` and `cut_tile`.

    Args:
      photographs: a source of records with "image" u8[H, W, C].
      size: pixels a side.
      margin: pixels around what is kept of each tile.
      modcrop: photographs are cropped, at the right and at the bottom, to sides that are multiples
        of this number; 1: not at all.
      border: what tiles have beyond the border of a photograph, see `tile_origins`.

    Attributes:
      class_names: those of the photographs.
    Raises:
      InputError: the margin leaves nothing, or a photograph is too small.
    """

    def __init__(
        self,
        photographs: Source,
        *,
        size: int,
        margin: int,
        modcrop: int = 1,
        border: str = "reflect",
    ):
        check_range("modcrop", modcrop, least=1)
        self._photographs, self._size = Cached(photographs, most=_KEPT), size
        self._border = border
        self._sizes: list[tuple[int, ...]] = []
        self._places: list[tuple[int, tuple[int, int]]] = []
        for number in range(len(photographs)):
            cropped = tuple(side - side % modcrop for side in size_of(self._photographs, number))
            where = photographs.where(number)
            if not min(cropped):
                raise InputError(f"{where} has a side of fewer than {modcrop} pixels: leave it out")
            try:
                origins = tile_origins(cropped, tile=size, margin=margin, border=border)
                self._places += [(number, origin) for origin in origins]
            except OptionError:
                raise
            except InputError as error:
                raise InputError(f"{where}: {error}") from error
            self._sizes.append(cropped)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._photographs.class_names

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Record:
        """Returns a record: "image" u8[S, S, C], and what `target` returns."""
        number, origin = self._places[index]
        height, width = self._sizes[number]
        image = image_of(self._photographs[number], self.where(index))[:height, :width]
        tile = cut_tile(image, origin, self._size, border=self._border)
        return {"image": tile, **self.target(index)}

    def where(self, index: int) -> str:
        return self._photographs.where(self._places[index][0])

    def target(self, index: int) -> Record:
        """Returns what `RandomPatches.target` does; "size" is that of the cropped photograph."""
        number, origin = self._places[index]
        return {
            "origin": origin,
            "size": self._sizes[number],
            "photograph": number,
            "seed": index,
        }
