"""What a kind of task brings to the command line: one record for each."""

import inspect
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from flax import linen as nn
from PIL import Image

from jaxvision.cli.code import Code, is_own
from jaxvision.cli.kinds.darknet import DARKNET, darknet_network
from jaxvision.cli.options import plain
from jaxvision.core import Inputs, OptionError, Record, Task, check_range, close_names, under
from jaxvision.data import Source
from jaxvision.models import CLASSIFIERS, MODELS, RESTORERS, SEGMENTERS, create_model
from jaxvision.predict import Prediction
from jaxvision.tasks.names import LOSSES


@dataclass(frozen=True)
class DataOptions:
    """Where the data come from; all tasks have these.

    Attributes:
      source: name of the data source.
      name: tfds: name of the data set.
      dir: folder of the data, or the file of an npz; None: TFDS's own folder.
      train_split: of a folder, cache, npz or TFDS; several parts of a folder as "a/train+b/train".
      test_split: likewise.
      validation_fraction: share of the training part to choose the best checkpoint by.
      image_size: height and width of the network's input.
      cache: keep decoded records in memory.
      threads: threads that read batches, in each process that reads.
      workers: processes that read; 0: threads of the main process read.
    """

    source: str = ""
    name: str | None = None
    dir: str | None = None
    train_split: str = "train"
    test_split: str = "test"
    validation_fraction: float = 0.1
    image_size: int = 32
    cache: bool = False
    threads: int = 2
    workers: int = 0

    def __post_init__(self) -> None:
        check_range("image_size", self.image_size, least=1)
        check_range("validation_fraction", self.validation_fraction, least=0, less_than=1)
        for name in ("threads", "workers"):
            check_range(name, getattr(self, name), least=0)

    @property
    def folder(self) -> pathlib.Path:
        """The folder of the data, or the file.

        Raises:
          OptionError: it is not set, or not there.
        """
        if not self.dir:
            raise OptionError("dir", "dir is not set: give the folder of the data")
        path = pathlib.Path(self.dir).expanduser()
        if not path.exists():
            raise OptionError("dir", f"dir is {self.dir}, which is not there: give the data's")
        return path

    def own_split(self, split: str) -> str:
        """What the data themselves call a split: "train" and "test" stand for the options."""
        return {"train": self.train_split, "test": self.test_split}.get(split, split)


@dataclass(frozen=True)
class ResizedData(DataOptions):
    """Data of images that are resized to the network's input.

    Attributes:
      image_size: height and width of the network's input; fit: of the box.
      resize: "stretch"; "letterbox" keeps the aspect ratio and fills the rest; "crop" cuts out the
        middle; "shorter_side" and "fit" (into a box) keep the aspect ratio and pad at the right and
        at the bottom; None: refuse images of another size.
      shorter_side: shorter_side and crop: pixels to which the shorter side is resized; crop: None:
        image_size.
      longer_side: shorter_side: pixels that the longer side has at most.
      multiple_of: shorter_side and fit: to which both padded sides are rounded up; None: 32.
      shapes: shorter_side and fit: "fixed", one shape; "buckets", batches are grouped by aspect
        ratio into at most four shapes; "exact", each image its own, to evaluate and predict.
      resampling: "uint8", antialiased; "float32", as torchvision's detectors.
    """

    resize: str | None = None
    shorter_side: int | None = None
    longer_side: int | None = None
    multiple_of: int | None = None
    shapes: str = "fixed"
    resampling: str = "uint8"

    def inputs(self, side: int | None = None, **more: Any) -> Inputs:
        """The input of the network.

        Args:
          side: pixels, instead of the image size, or of the shorter side; None: those.
          **more: further options of `Inputs`.
        """
        by_side = self.resize == "shorter_side"
        size = None if by_side else (side or self.image_size,) * 2
        return Inputs(
            size,
            resize=self.resize,
            shorter_side=side if by_side and side else self.shorter_side,
            longer_side=self.longer_side,
            multiple_of=self.multiple_of,
            shapes=self.shapes,
            resampling=self.resampling,
            **more,
        )


class Built(NamedTuple):
    """What is built from a config.

    Attributes:
      task: the task.
      train_transform: makes an example of a record, in training.
      eval_transform: likewise, in evaluation.
    """

    task: Task
    train_transform: Any
    eval_transform: Any


class Result(NamedTuple):
    """What prediction leaves of an image.

    Attributes:
      entry: of predictions.json.
      files: an array for each of `Kind.files`: a picture u8[H, W, 3], or labels int[H, W].
    """

    entry: dict[str, Any]
    files: tuple[np.ndarray, ...]


def _first_file(prediction: Prediction, result: Result) -> np.ndarray:
    return result.files[0]


def _same(options: Any, records: Source) -> Source:
    return records


@dataclass(frozen=True)
class Kind:
    """One kind of task.

    Attributes:
      name: of the kind.
      groups: group of the config -> dataclass of its options; the path of a nested group has dots.
      defaults: path of an option -> value where it differs from that of the dataclass.
      sources: name -> (options of the data, split) -> the records.
      build: (config, class names, code, evaluation alone) -> what is built.
      transform: (task) -> what makes an example of a record, in evaluation.
      table: (evaluation's tables, class names) -> lines of text; None: there is no table.
      pictures: (run, examples) -> rows of captioned pictures; None: there are none.
      page: name of the page of these pictures, which has the split after it.
      csv: (run, examples) -> name of a CSV file -> its rows, the titles first; None: likewise.
      write: (run, file) -> None: writes what was found, for other programs; None: likewise.
      written: name of that file, which has the split after it.
      figures: (evaluation's tables, class names) -> name -> figure of matplotlib; None: likewise.
      results: (prediction, task) -> what prediction leaves; None: predict does not take it.
      options: names of the flags of predict that `results` takes as keywords.
      decode: flag of predict -> option of the task's decoding that it sets.
      frame: (prediction, what it leaves) -> the picture as a frame of a video, which has the same
        size for all images of one size.
      files: patterns of the names of its files, the picture's first; "{}" stands for the image.
      trained_on: (options of the data, records) -> the parts of the records to train on.
      measured_on: likewise, to evaluate on.
      empty: (image, classes) -> the annotations of a record that has none; None where images have
        no one size.
    """

    name: str
    groups: Mapping[str, type]
    defaults: Mapping[str, Any]
    sources: Mapping[str, Callable[[Any, str], Source]]
    build: Callable[[Any, Sequence[str], Code, bool], Built]
    transform: Callable[[Task], Any]
    table: Callable[[Mapping[str, np.ndarray], Sequence[str]], str] | None = None
    pictures: Callable[["Shown"], list[dict[str, np.ndarray]]] | None = None
    page: str = "predictions"
    csv: Callable[["Shown"], Mapping[str, Iterable[Sequence[Any]]]] | None = None
    write: Callable[["Shown", pathlib.Path], None] | None = None
    written: str = ""
    figures: Callable[[Mapping[str, np.ndarray], Sequence[str]], Mapping[str, Any]] | None = None
    results: Callable[..., Result] | None = None
    options: tuple[str, ...] = ()
    decode: Mapping[str, str] = field(default_factory=dict)
    frame: Callable[[Prediction, Result], np.ndarray] = _first_file
    files: tuple[str, ...] = ("{}.png",)
    trained_on: Callable[[Any, Source], Source] = _same
    measured_on: Callable[[Any, Source], Source] = _same
    empty: Callable[[np.ndarray, int], Record] | None = None


class Shown(NamedTuple):
    """What pictures of an evaluation are made from.

    Attributes:
      class_names: of what was evaluated.
      evaluation: of all records.
      records: what was evaluated.
      task: that was evaluated; None: what another program found.
      variables: of its network.
      examples: some of the records as a host batch, before `Task.prepare`.
    """

    class_names: Sequence[str]
    evaluation: Any
    records: Source
    task: Task | None = None
    variables: Any = None
    examples: Any = None


PICTURES = 8
"""Images in a page of predictions."""
LEAST_SCORE = 0.3
"""Of the detections that are drawn there."""
_SIDES = 320, 640  # pixels: pictures are brought to such a size, to look at


_NETWORKS = {
    "classification": CLASSIFIERS,
    "landmarks": SEGMENTERS,
    "restoration": RESTORERS,
    "segmentation": SEGMENTERS,
}
"""Task -> the library's networks that it can take; a detector may take any."""


def build_model(config: Any, code: Code, **fields: Any) -> nn.Module:
    """The network that `config.model` names, with its fields.

    Args:
      config: of the run.
      code: finds networks of the user's own.
      **fields: set by the task; the config's come on top, where the network has them.
    """
    settings = plain(config.model)
    name = settings.pop("name")
    if "remat" in settings:
        raise OptionError(
            "config.model.remat", "config.model.remat: set config.remat, which all networks have"
        )
    if config.remat:
        settings["remat"] = True
    if name == DARKNET:
        check_options("config.model", darknet_network, settings)
    with under("config.model"):
        if name == DARKNET:
            return darknet_network(**{**fields, **settings})
        if not is_own(name):
            if name in MODELS and name not in _NETWORKS.get(config.task, MODELS):
                raise OptionError(
                    "name",
                    f"name is {name!r}, which is no network for {config.task}: "
                    f"{close_names(name, _NETWORKS[config.task])}",
                )
            return create_model(name, **{**fields, **settings})
        build = code.find(MODELS, name, "model")
    if config.remat and "remat" not in inspect.signature(build).parameters:
        raise OptionError(
            "config.remat", f"config.remat is set, but {name} has no field remat: leave it out"
        )
    with under("config.model"):
        return build(**{**fields, **settings})


def find_loss(config: Any, code: Code, kind: str) -> Callable[..., Any]:
    """The loss that `config.loss` names, with its options.

    Args:
      config: of the run.
      code: finds losses of the user's own.
      kind: of the task, whose losses have names.
    """
    settings = plain(config.loss)
    name = settings.pop("name")
    function = code.find(LOSSES[kind], name, "loss")
    check_options("config.loss", function, settings)
    return partial(function, **settings) if settings else function


def check_options(path: str, function: Callable[..., Any], settings: Mapping[str, Any]) -> None:
    """Raises OptionError if a function does not take some options.

    Args:
      path: of the group that they are in.
      function: what they are for.
      settings: name of each option -> value.
    """
    known = inspect.signature(function).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in known):
        return
    names = [x.name for x in known if x.kind is not inspect.Parameter.POSITIONAL_ONLY]
    for key in settings.keys() - set(names):
        title = getattr(function, "__name__", None) or getattr(function, "func", function).__name__
        optional = [x.name for x in known if x.default is not inspect.Parameter.empty]
        raise OptionError(
            f"{path}.{key}", f"{path}.{key} is no option of {title}: {close_names(key, optional)}"
        )


def to_look_at(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An image in a size to look at, and f32[2], how many times it is wider and higher."""
    height, width = image.shape[:2]
    least, most = (side / max(height, width) for side in _SIDES)
    size = [max(1, round(side * min(max(1, least), most))) for side in (width, height)]
    canvas = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    return canvas, np.array([size[0] / width, size[1] / height], np.float32)
