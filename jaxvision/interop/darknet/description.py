"""A Darknet description as a value: its layers, their sizes and how many numbers they hold."""

import dataclasses
import os
import pathlib

from jaxvision.core import InputError
from jaxvision.interop.darknet.heads import End, Head
from jaxvision.interop.darknet.kinds import read_layers
from jaxvision.interop.darknet.layers import Layer, Size, Stored
from jaxvision.interop.darknet.sections import parse_sections


@dataclasses.dataclass(frozen=True)
class Description:
    """A network as a .cfg file describes it. Frozen and hashable, to be a field of a module.

    Attributes:
      source: the file's name.
      image: the (height, width, channels) of its images. Other heights and widths will do as well,
        but for connected and local layers.
      layers: in their order.
    """

    source: str
    image: Size
    layers: tuple[Layer, ...]

    def sizes(self, height: int | None = None, width: int | None = None) -> tuple[Size, ...]:
        """The (height, width, channels) of each layer's map, by the format's arithmetic.

        Args:
          height: of the images; None: as described.
          width: of the images; None: as described.
        Raises:
          InputError: at that size a layer's inputs do not fit it.
        """
        sizes = [self._image(height, width)]
        for layer in self.layers:
            sizes.append(layer.output(*(sizes[number + 1] for number in layer.inputs)))
        return tuple(sizes[1:])

    def heads(self, height: int | None = None, width: int | None = None) -> tuple[Head, ...]:
        """The detectors' heads, with strides and anchors in pixels.

        Args:
          height: of the images; None: as described.
          width: of the images; None: as described.
        Raises:
          InputError: as `sizes`, or the cells of a map are not square.
        """
        image = self._image(height, width)
        sizes = self.sizes(*image[:2])
        ends = [layer for layer in self.layers if isinstance(layer, End)]
        return tuple(layer.head(sizes[layer.index], image) for layer in ends)

    def stored(self, *, transposed: bool = False) -> tuple[tuple[Stored, ...], ...]:
        """The arrays of each layer in a weights file, at the size described.

        Args:
          transposed: whether the matrices of connected layers are [in, out].
        """
        sizes = self.sizes()
        return tuple(
            layer.stored(
                self.image if layer.inputs[0] < 0 else sizes[layer.inputs[0]],
                sizes[layer.index],
                transposed=transposed,
            )
            for layer in self.layers
        )

    @property
    def num_parameters(self) -> int:
        """Numbers that are trained: kernels, biases and the norms' scales."""
        return self._count("params")

    @property
    def num_statistics(self) -> int:
        """Running means and variances, which a weights file holds too."""
        return self._count("batch_stats")

    def _count(self, collection: str) -> int:
        arrays = [array for layer in self.stored() for array in layer]
        return sum(array.count for array in arrays if array.path[0] == collection)

    def _image(self, height: int | None, width: int | None) -> Size:
        own = self.image
        return own._replace(
            height=own.height if height is None else height,
            width=own.width if width is None else width,
        )


def parse_cfg(text: str, name: str = "<cfg>") -> Description:
    """The description that the text of a .cfg file is.

    Options that only concern training are passed over, as Darknet does with those that it does not
    know. Of an option that is given twice in a section the first counts.

    Args:
      text: sections, begun by [net].
      name: of the file, for messages.
    Returns:
      The description; every layer has been checked at the size that it gives.
    Raises:
      InputError: a section or an option is wrong, missing or not supported, or layers do not fit;
        with the line.
    """
    sections = parse_sections(text, name)
    if not sections or sections[0].kind not in ("net", "network"):
        line = sections[0].line if sections else 1
        raise InputError(f"{name}, line {line}: begin with [net]")
    if len(sections) == 1:
        raise InputError(f"{name}: has no layers: add some after [net]")
    image = Size(*(sections[0].integer(axis) for axis in Size._fields))
    description = Description(name, image, read_layers(sections[1:]))
    description.sizes()
    return description


def read_cfg(path: str | os.PathLike[str]) -> Description:
    """The description in a file; see `parse_cfg`.

    Args:
      path: of the .cfg file.
    Raises:
      InputError: the file cannot be read, or as in `parse_cfg`.
    """
    path = pathlib.Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: no description can be read from it: {error}") from None
    return parse_cfg(text, str(path))
