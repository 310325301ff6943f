"""The description of a Darknet network: its layers, their sizes and their arrays of weights."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from jaxvision.core import InputError, reason_of
from jaxvision.core.files import read_text
from jaxvision.interop.darknet.dialects import ALEXEYAB, dialect_of
from jaxvision.interop.darknet.heads import NMS, End, Head
from jaxvision.interop.darknet.kinds import read_layers
from jaxvision.interop.darknet.layers import Layer, Size, Stored
from jaxvision.interop.darknet.sections import Section, parse_sections
from jaxvision.interop.darknet.weighted import Convolutional


@dataclasses.dataclass(frozen=True)
class Description:
    """A network as a .cfg file describes it.

    It is frozen and hashable, so that it can be a field of a module. Options for training are
    ignored, except for those of the loss of a [yolo], as Darknet ignores unknown options. If an
    option is given twice in a section, the first one counts.

    Attributes:
      text: sections, of which the first is [net].
      source: name of the file, for messages.
      dialect: the program whose rules count where no option says it: "pjreddie", Darknet, or
        "alexeyab", AlexeyAB's fork. They differ in what is added to the variance of norms and in
        how images are resized. If None is given, it is the second one if there is an option or a
        layer that only this one has.

    Raises:
      InputError: a section or an option is wrong, missing or not supported, or layers do not fit
        together. The message names the line.
      OptionError: there is no such dialect.
    """

    text: str
    source: str = "<cfg>"
    dialect: str | None = None

    def __post_init__(self) -> None:
        sections = self._sections
        if not sections or sections[0].kind not in ("net", "network"):
            line = sections[0].line if sections else 1
            raise InputError(f"{self.source}, line {line}: the first section must be [net]")
        if len(sections) == 1:
            raise InputError(f"{self.source} has no layers: add some after [net]")
        object.__setattr__(self, "dialect", dialect_of(sections, self.dialect))
        inputs = self._input_sizes()
        for layer in self.layers:
            if isinstance(layer, Convolutional) and layer.shared != layer.index:
                other = self.layers[layer.shared]
                layer.check_shared(other, inputs[layer.index], inputs[layer.shared])

    @functools.cached_property
    def _sections(self) -> tuple[Section, ...]:
        return parse_sections(self.text, self.source)

    @functools.cached_property
    def image(self) -> Size:
        """(height, width, channels) of the images. Other heights and widths also work, except with
        connected and local layers."""
        return Size(*(self._sections[0].integer(axis) for axis in Size._fields))

    @functools.cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The layers, in order."""
        return read_layers(self._sections[1:])

    @property
    def letter_box(self) -> bool:
        """Whether [net] has letter_box=1, an option of the fork."""
        return self._sections[0].flag("letter_box")

    def with_classes(self, num_classes: int) -> "Description":
        """The description of the same detector for another number of classes.

        The classes of the heads change, and the filters, or the outputs, of the layers before them.

        Args:
          num_classes: how many.
        Raises:
          InputError: the input of a head is no layer with weights, or the classes are nodes of a
            tree.
        """
        changes: dict[int, dict[str, int]] = {}
        for end in self.layers:
            if isinstance(end, End) and end.classes != num_classes:
                before = end.inputs[0]
                changes[end.index] = {"classes": num_classes}
                changes[before] = end.sized(num_classes, self.layers[before])
        sections = [
            section.with_options(changes.get(number - 1, {}))
            for number, section in enumerate(self._sections)
        ]
        if not changes:
            return self
        text = "\n".join(section.text_of() for section in sections)
        return dataclasses.replace(self, text=text)

    def count_classes(self, variables: Mapping[str, Any]) -> int | None:
        """For how many classes variables are: those of `with_classes` of this number.

        Args:
          variables: of `DarknetNetwork`.
        Returns:
          the number; None if the description has no head, or the layer before it has no weights.
        Raises:
          InputError: no number of classes fits.
        """
        for end in self.layers:
            if not isinstance(end, End):
                continue
            before = self.layers[end.inputs[0]]
            kernel = variables.get("params", {}).get(getattr(before, "name", ""), {}).get("kernel")
            if kernel is None:
                return None
            (now,) = end.sized(end.classes, before).values()
            more, rest = divmod(kernel.shape[-1] - now, end.per_class)
            if rest or end.classes + more < 1:
                raise InputError(
                    f"{before.name} of the weights has {kernel.shape[-1]} outputs, but with the "
                    f"{end.classes} classes of {self.source} it has {now}: no number of classes "
                    "gives that, so the weights are of another network"
                )
            return end.classes + more
        return None

    @property
    def resize(self) -> str:
        """How images are resized: "stretch" or "letterbox", with grey borders.

        Darknet stretches images for YOLOv1 and letterboxes them for later detectors; the fork
        stretches them for all unless letter_box=1.
        """
        if self.dialect == ALEXEYAB:
            return "letterbox" if self.letter_box else "stretch"
        ends = [layer.section.kind for layer in self.layers if isinstance(layer, End)]
        return "letterbox" if ends and "detection" not in ends else "stretch"

    @property
    def nms(self) -> NMS:
        """How boxes are suppressed: as the last layer says."""
        last = self.layers[-1]
        return last.nms if isinstance(last, End) else NMS()

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
        sizes, inputs = self.sizes(), self._input_sizes()
        return tuple(
            layer.stored(inputs[layer.index], sizes[layer.index], transposed=transposed)
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

    def _input_sizes(self) -> list[Size]:
        """The size of the first input of each layer."""
        sizes = self.sizes()
        firsts = (layer.inputs[0] for layer in self.layers)
        return [self.image if first < 0 else sizes[first] for first in firsts]

    def _count(self, collection: str) -> int:
        arrays = [array for layer in self.stored() for array in layer]
        return sum(array.count for array in arrays if array.path[0] == collection)

    def _image(self, height: int | None, width: int | None) -> Size:
        own = self.image
        return own._replace(
            height=own.height if height is None else height,
            width=own.width if width is None else width,
        )


def parse_cfg(text: str, name: str = "<cfg>", *, dialect: str | None = None) -> Description:
    """Parses the text of a .cfg file.

    Args:
      text: see `Description`.
      name: name of the file, for messages.
      dialect: see `Description`.
    Returns:
      the description, whose layers have been checked for images of the described size.
    Raises:
      InputError: as for `Description`.
      OptionError: as for `Description`.
    """
    return Description(text, name, dialect)


def read_cfg(path: str | os.PathLike[str], *, dialect: str | None = None) -> Description:
    """Reads and parses a .cfg file; see `parse_cfg`.

    Args:
      path: path of the .cfg file.
      dialect: as for `parse_cfg`.
    Raises:
      InputError: the file cannot be read, or as for `parse_cfg`.
      OptionError: as for `parse_cfg`.
    """
    path = pathlib.Path(path)
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a description: {reason_of(error)}") from None
    return parse_cfg(text, str(path), dialect=dialect)
