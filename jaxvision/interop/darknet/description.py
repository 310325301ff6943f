"""The description of a Darknet network: its layers, their sizes and their arrays of weights."""

import dataclasses
import os
import pathlib

from jaxvision.core import InputError, reason_of
from jaxvision.core.files import read_text
from jaxvision.interop.darknet.heads import End, Head
from jaxvision.interop.darknet.kinds import read_layers
from jaxvision.interop.darknet.layers import Layer, Size, Stored
from jaxvision.interop.darknet.sections import parse_sections


@dataclasses.dataclass(frozen=True)
class Description:
    """A network as a .cfg file describes it.

    It is frozen and hashable, so that it can be a field of a module.

    Attributes:
      source: the name of the file.
      image: (height, width, channels) of the images. Other heights and widths also work, except
        with connected and local layers.
      layers: the layers, in order.
    """

    source: str
    image: Size
    layers: tuple[Layer, ...]

    def sizes(self, height: int | None = None, width: int | None = None) -> tuple[Size, ...]:
        """Computes (height, width, channels) of the map of each layer, as Darknet does.

        Args:
          height: height of the images; None: as described.
          width: width of the images; None: as described.
        Raises:
          InputError: with images of this size, the inputs of a layer do not fit it.
        """
        sizes = [self._image(height, width)]
        for layer in self.layers:
            sizes.append(layer.output(*(sizes[number + 1] for number in layer.inputs)))
        return tuple(sizes[1:])

    def heads(self, height: int | None = None, width: int | None = None) -> tuple[Head, ...]:
        """Returns the heads of the detector, with strides and anchors in pixels.

        Args:
          height: height of the images; None: as described.
          width: width of the images; None: as described.
        Raises:
          InputError: as for `sizes`, or the cells of a map are not square.
        """
        image = self._image(height, width)
        sizes = self.sizes(*image[:2])
        ends = [layer for layer in self.layers if isinstance(layer, End)]
        return tuple(layer.head(sizes[layer.index], image) for layer in ends)

    def stored(self, *, transposed: bool = False) -> tuple[tuple[Stored, ...], ...]:
        """Returns the arrays of each layer in a weights file, for images of the described size.

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
        """How many numbers are trained: kernels, biases and the scales of norms."""
        return self._count("params")

    @property
    def num_statistics(self) -> int:
        """How many running means and variances there are; a weights file also contains them."""
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
    """Parses the text of a .cfg file.

    Options for training are ignored, as Darknet ignores unknown options. If an option is given
    twice in a section, the first one counts.

    Args:
      text: sections, of which the first is [net].
      name: name of the file, for messages.
    Returns:
      the description, whose layers have been checked for images of the described size.
    Raises:
      InputError: a section or an option is wrong, missing or not supported, or layers do not fit
        together. The message names the line.
    """
    sections = parse_sections(text, name)
    if not sections or sections[0].kind not in ("net", "network"):
        line = sections[0].line if sections else 1
        raise InputError(f"{name}, line {line}: the first section must be [net]")
    if len(sections) == 1:
        raise InputError(f"{name} has no layers: add some after [net]")
    image = Size(*(sections[0].integer(axis) for axis in Size._fields))
    description = Description(name, image, read_layers(sections[1:]))
    description.sizes()
    return description


def read_cfg(path: str | os.PathLike[str]) -> Description:
    """Reads and parses a .cfg file; see `parse_cfg`.

    Args:
      path: path of the .cfg file.
    Raises:
      InputError: the file cannot be read, or as for `parse_cfg`.
    """
    path = pathlib.Path(path)
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a description: {reason_of(error)}") from None
    return parse_cfg(text, str(path))
