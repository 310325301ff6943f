"""From records to examples for restoration."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxvision.core import InputError, Record, RestorationBatch
from jaxvision.data.sources.source import image_of


@dataclass(frozen=True)
class ToRestoration:
    """Makes a record of `RandomPatches` or `Tiles` an example for restoration.

    A grey image keeps its values: it gets three equal channels, as a batch has images of one shape,
    and `grey` says that it is one.
    """

    def __call__(self, record: Record, where: str) -> RestorationBatch:
        """Returns one example: a `RestorationBatch` without its batch axis.

        Args:
          record: "image" u8[S, S, 3] or u8[S, S, 1], "origin" (row, column) and "size" (height,
            width) of the photograph, its number "photograph", and the number "seed".
          where: names the record in messages.
        Raises:
          InputError: the image has another dtype, rank or number of channels.
        """
        image = image_of(record, where)
        channels = image.shape[2]
        if channels not in (1, 3):
            raise InputError(
                f"{where}: the image has {channels} channels: store it as RGB or as grey"
            )
        integers: dict[str, Any] = {
            name: np.array(record[name], np.int32) for name in ("origin", "size", "photograph")
        }
        return RestorationBatch(
            image=image if channels == 3 else image.repeat(3, axis=2),
            seed=np.array(record["seed"], np.uint32),
            mask=np.True_,
            grey=np.bool_(channels == 1),
            extent=np.array(image.shape[:2], np.int32),
            **integers,
        )
