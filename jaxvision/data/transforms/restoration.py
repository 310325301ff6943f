"""From photographs to squares for restoration: random ones to train on, tiles to measure on."""

from typing import Any

import numpy as np

from jaxvision.core import InputError, RestorationBatch, check_range
from jaxvision.data.sources.source import Cached, Record, Source, image_of
from jaxvision.data.transforms.tiles import cut_tile, tile_origins

_OPEN = 4  # photographs that are kept decoded


class RandomPatches:
    """A source of squares of photographs, `count` of each, at places that stay the same.

    Args:
      photographs: a source of records with "image" u8[H, W, 3].
      size: pixels a side.
      count: of each photograph.
    Raises:
      InputError: a number below 1.
    """

    def __init__(self, photographs: Source, *, size: int, count: int):
        check_range("config.data.image_size", size, least=1)
        check_range("config.data.patches", count, least=1)
        self._photographs, self._size, self._count = Cached(photographs, most=_OPEN), size, count

    def __len__(self) -> int:
        return len(self._photographs) * self._count

    def __getitem__(self, index: int) -> Record:
        """A record, see `to_restoration_example`.

        Raises:
          InputError: the photograph is smaller than the square.
        """
        number = index // self._count
        image = image_of(self._photographs[number], self.where(index))
        height, width = image.shape[:2]
        if min(height, width) < self._size:
            raise InputError(
                f"{self.where(index)} has {width} x {height} pixels, fewer than a "
                f"patch: leave it out, or lower config.data.image_size from {self._size}"
            )
        # RandomState's stream is frozen by numpy's compatibility policy.
        rng = np.random.RandomState(index)
        origin = tuple(rng.randint(side - self._size + 1) for side in (height, width))
        return _record(image, origin, self._size, number, seed=index)

    def where(self, index: int) -> str:
        return self._photographs.where(index // self._count)


class Tiles:
    """A source of tiles that cover photographs, as in `jaxvision.data.transforms.tiles`.

    Args:
      photographs: a source of records with "image" u8[H, W, 3].
      size: pixels a side.
      margin: around what each tile keeps.
    Raises:
      InputError: a margin that leaves nothing.
    """

    def __init__(self, photographs: Source, *, size: int, margin: int):
        self._photographs, self._size = Cached(photographs, most=_OPEN), size
        self._places = [
            (number, origin)
            for number in range(len(photographs))
            for origin in tile_origins(
                image_of(self._photographs[number], photographs.where(number)).shape[:2],
                tile=size,
                margin=margin,
            )
        ]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Record:
        """A record, see `to_restoration_example`."""
        number, origin = self._places[index]
        image = image_of(self._photographs[number], self.where(index))
        return _record(image, origin, self._size, number, seed=index)

    def where(self, index: int) -> str:
        return self._photographs.where(self._places[index][0])


def _record(
    image: np.ndarray, origin: tuple[int, int], size: int, number: int, *, seed: int
) -> Record:
    return {
        "image": cut_tile(image, origin, size),
        "origin": origin,
        "size": image.shape[:2],
        "photograph": number,
        "seed": seed,
    }


def to_restoration_example(record: Record, where: str) -> RestorationBatch:
    """One example: a `RestorationBatch` without its batch axis.

    Args:
      record: "image" u8[S, S, 3], "origin" (row, column) and "size" (height, width) of the
        photograph, its number "photograph", and the number "seed".
      where: not used.
    """
    del where
    integers: dict[str, Any] = {
        name: np.array(record[name], np.int32) for name in ("origin", "size", "photograph")
    }
    return RestorationBatch(
        image=record["image"], seed=np.array(record["seed"], np.uint32), mask=np.True_, **integers
    )
