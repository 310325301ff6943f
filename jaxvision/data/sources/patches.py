"""Squares of photographs for restoration: random ones to train on, tiles to measure on."""

import numpy as np

from jaxvision.core import InputError, Record, check_range
from jaxvision.data.sources.source import Source, image_of, size_of
from jaxvision.data.sources.subsets import Cached
from jaxvision.data.sources.tiles import cut_tile, tile_origins

_KEPT = 4  # photographs that are kept decoded


class RandomPatches:
    """A source of squares of photographs, `count` of each, at places that stay the same.

    Args:
      photographs: a source of records with "image" u8[H, W, 3].
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
        """Returns a record: "image" u8[S, S, 3], and what `target` returns.

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
      photographs: a source of records with "image" u8[H, W, 3].
      size: pixels a side.
      margin: pixels around what is kept of each tile.

    Attributes:
      class_names: those of the photographs.
    Raises:
      OptionError: the margin leaves nothing.
    """

    def __init__(self, photographs: Source, *, size: int, margin: int):
        self._photographs, self._size = Cached(photographs, most=_KEPT), size
        self._sizes = [size_of(self._photographs, index) for index in range(len(photographs))]
        self._places = [
            (number, origin)
            for number, image_size in enumerate(self._sizes)
            for origin in tile_origins(image_size, tile=size, margin=margin)
        ]

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._photographs.class_names

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Record:
        """Returns a record: "image" u8[S, S, 3], and what `target` returns."""
        number, origin = self._places[index]
        image = image_of(self._photographs[number], self.where(index))
        return {"image": cut_tile(image, origin, self._size), **self.target(index)}

    def where(self, index: int) -> str:
        return self._photographs.where(self._places[index][0])

    def target(self, index: int) -> Record:
        """Returns what `RandomPatches.target` does."""
        number, origin = self._places[index]
        return {
            "origin": origin,
            "size": self._sizes[number],
            "photograph": number,
            "seed": index,
        }
