"""Predicts for images with a task, whatever its kind."""

import functools
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxvision.core import ImageBatch, InputError, Task, check_array, check_range
from jaxvision.core.threads import in_order
from jaxvision.data import read_image
from jaxvision.data.sources.photographs import is_grey
from jaxvision.data.transforms.placing import with_channels
from jaxvision.predict.batches import Parts, run_in_batches
from jaxvision.predict.restorer import Restorer, Restoring
from jaxvision.predict.results import CONVERT
from jaxvision.predict.segmenter import LabelTiles, stride_of_maps
from jaxvision.tasks.inference import (
    FittedImage,
    fit,
    image_batch,
    outputs_of,
    predictions_of,
)

GivenImage = str | os.PathLike[str] | np.ndarray
"""A file, or u8[H, W, 3], u8[H, W, 1] or u8[H, W]."""


class Prediction(NamedTuple):
    """What was predicted for an image.

    Attributes:
      source: the file as it was given, or the number of an image that was given as an array.
      image: u8[H, W, 3], RGB.
      result: in pixels of this image; see `predict`.
    """

    source: Any
    image: np.ndarray
    result: Any


class Failed(NamedTuple):
    """An image that could not be read or does not fit the network.

    Attributes:
      source: as of `Prediction`.
      reason: one line that names the image and says what to do.
    """

    source: Any
    reason: str


def predict(
    task: Task,
    variables: Any,
    images: Iterable[GivenImage],
    *,
    batch_size: int = 8,
    compiler_options: Mapping[str, Any] | None = None,
) -> Iterator[Prediction | Failed]:
    """Predicts for images of any sizes, in their order.

    `task.inputs` says how images become the network's input. The network is compiled once for each
    shape of it, also over several calls with one task: images of one shape share batches, and so do
    the tiles of several images. Threads read and resize images while the network computes. An image
    that cannot be read, or has another size than the network takes although `inputs.resize` is
    None, gives `Failed`, and the rest goes on. If the iterator over the images itself raises an
    InputError, as that of `jaxvision.data.VideoFrames` does where a video is damaged, the last item
    is a `Failed`. The result depends on `task.kind`:

      classification: a dictionary with "index", the class; "label", its name, or None if the task
        has no names; and "probabilities", f32[num_classes], in the order of the classes.
      detection: `DetectedObjects`.
      landmarks: a dictionary with "points", f64[K, 2], xy, and "scores", f64[K].
      segmentation: int[H, W], with 255 where the network gives no label, as outside of a crop. If
        `inputs.resize` is None, images of other sizes are cut into overlapping tiles, as
        `tile_overlap` and `tile_average` of `jaxvision.tasks.Segmentation` say.
      restoration: u8[factor H, factor W, 3]. The task has the fields `color`, `factor`, `enlarged`,
        `tile`, `margin` and perhaps `border` of `jaxvision.tasks.Restoration`.
      any other: what `task.decode` gives, as numpy arrays.

    Args:
      task: of which `kind`, `inputs`, `class_names`, `prepare`, `forward` and `decode` are used.
      variables: of the network.
      images: files, or arrays u8[H, W, 3], u8[H, W, 1] or u8[H, W]; or the frames of a video,
        `jaxvision.data.VideoFrames`. They are read ahead, up to two batches more than there are
        shapes of the network's input.
      batch_size: images or tiles that the network sees at a time, at least 1. It is lowered to the
        number of images, if that is known, and is 1 if `inputs.shapes` is "exact".
      compiler_options: of XLA, such as those of `jaxvision.models.compiler_options` for a network;
        None: the defaults.
    Returns:
      an iterator over a `Prediction` or a `Failed` for each image.
    Raises:
      InputError: an option is out of range, `images` is one image instead of several, or the task
        has no `inputs` although its kind needs them.
    """
    check_range("batch_size", batch_size, least=1)
    if isinstance(images, str | os.PathLike) or (
        isinstance(images, np.ndarray | Array) and images.ndim != 4
    ):
        raise InputError("images is one image: give a list of images")
    if isinstance(images, Sized):
        batch_size = max(1, min(batch_size, len(images)))
    variables = jax.device_put(variables)
    compiled = _compiled(tuple(sorted((compiler_options or {}).items())))
    if task.kind == "restoration":
        restorer = restorer_of(task, variables, batch_size=batch_size)
        return _predicted(images, _Restoration(restorer), batch_size)
    if task.inputs is None:
        raise InputError(
            f"a task of the kind {task.kind!r} has no inputs: set them, so that images can be "
            "brought to the size of its network"
        )
    exact = task.inputs.shapes == "exact"
    batch_size, shapes = (1, 1) if exact else (batch_size, len(task.inputs.sizes))
    return _predicted(images, _Fitting(task, variables, batch_size, compiled), batch_size, shapes)


def restorer_of(task: Any, variables: Any, *, batch_size: int = 1) -> Restorer:
    """Makes what restores images of any size with the network of a restoration task.

    `prepare` is not used, because it degrades images: the network gets them in 0..1.

    Args:
      task: a `jaxvision.tasks.Restoration`.
      variables: of the network.
      batch_size: tiles in a batch.
    """
    functions = _Functions(task.prepare, task.forward, task.decode)
    # The network of a task that enlarges gets tiles that are smaller by the factor.
    shrunk = 1 if task.enlarged else task.factor
    return Restorer(
        restore=lambda images: _restore(functions, variables, images),
        color=task.color,
        factor=task.factor,
        enlarged=task.enlarged,
        tile=task.tile // shrunk,
        margin=task.margin // shrunk,
        batch_size=batch_size,
        border=getattr(task, "border", "reflect"),
    )


class _Functions(NamedTuple):
    """What of a task is compiled; unlike a `Task` it can be hashed."""

    prepare: Callable[..., Any]
    forward: Callable[..., Any]
    decode: Callable[..., Any]


@functools.lru_cache
def _compiled(options: tuple[tuple[str, Any], ...]) -> Callable[..., Any]:
    """`predictions_of`, compiled with some options of XLA; shared by all calls with the same."""
    return jax.jit(predictions_of, static_argnums=0, compiler_options=dict(options) or None)


@functools.partial(jax.jit, static_argnums=0)
def _restore(functions: _Functions, variables: Any, images: Array) -> Array:
    batch = _whole(check_array("images", images, ("B", "H", "W", "C")))
    outputs, _ = functions.forward(variables, batch, keys=None, step=jnp.int32(0), train=False)
    return jax.vmap(functions.decode)(outputs, batch)


def _whole(images: Any) -> ImageBatch:
    """Makes a batch of images that were not resized, of numpy or JAX."""
    count, height, width = images.shape[:3]
    size = np.tile(np.int32([height, width]), (count, 1))
    return ImageBatch(
        image=images,
        mask=np.ones(count, bool),
        extent=size,
        placement=np.tile(np.float32([1, 1, 0, 0]), (count, 1)),
        size=size,
    )


class _Read(NamedTuple):
    """An image that was read.

    Attributes:
      source: as of `Prediction`.
      where: names it in messages.
      image: u8[H, W, 3], RGB.
      grey: whether it was stored without colours.
    """

    source: Any
    where: str
    image: np.ndarray
    grey: bool


def _numbered(images: Iterable[GivenImage]) -> Iterator[tuple[int, GivenImage] | Failed]:
    """Numbers images until there are no more, or until the iterator says why it cannot go on."""
    items = iter(images)
    for number in itertools.count():
        try:
            yield number, next(items)
        except StopIteration:
            return
        except InputError as error:
            yield Failed(number, str(error))
            return


def _read(number: int, given: GivenImage) -> _Read | Failed:
    """Reads an image, or says why that is not possible."""
    if isinstance(given, str | os.PathLike):
        try:
            return _Read(given, str(given), read_image(given), is_grey(given))
        except InputError as error:
            return Failed(given, str(error))
    where = f"image {number}"
    try:
        pixels = np.asarray(given)
        grey = pixels.ndim == 2 or pixels.shape[2:] == (1,)
        return _Read(number, where, with_channels(pixels, 3), grey)
    except InputError as error:
        return Failed(number, f"{where}: {error}")


class _Way(Protocol):
    """How the images of a task are predicted."""

    def prepare(self, read: _Read) -> Any:
        """What can be done in a thread, for one image; may raise InputError."""

    def parts(self, read: _Read, prepared: Any) -> "_Image":
        """What the network has to do for an image."""


class _Image(Parts, Protocol):
    def result(self) -> Any:
        """What is predicted, when the outputs for all inputs are here."""


def _predicted(
    images: Iterable[GivenImage], way: _Way, batch_size: int, shapes: int = 1
) -> Iterator[Prediction | Failed]:
    """Predicts for images: threads read them, and inputs of several images share a batch.

    Args:
      images: as of `predict`.
      way: how they are predicted.
      batch_size: inputs in a batch.
      shapes: how many shapes the inputs have.
    """

    def read(item: tuple[int, GivenImage] | Failed) -> tuple[_Read, Any] | Failed:
        found = item if isinstance(item, Failed) else _read(*item)
        if isinstance(found, Failed):
            return found
        try:
            return found, way.prepare(found)
        except InputError as error:
            return Failed(found.source, f"{found.where}: {error}")

    def begun() -> Iterator[tuple[tuple[_Read, _Image] | Failed, _Image | None]]:
        for item in in_order(read, _numbered(images), ahead=batch_size):
            if isinstance(item, Failed):
                yield item, None
            else:
                image = way.parts(*item)
                yield (item[0], image), image

    # One batch is computed while the next one, of any of the shapes, is filled.
    most = batch_size * (shapes + 1)
    for item in run_in_batches(begun(), batch_size=batch_size, most=most):
        if isinstance(item, Failed):
            yield item
        else:
            found, image = item
            yield Prediction(found.source, found.image, image.result())


class _Restoration(NamedTuple):
    """Restores images."""

    restorer: Restorer

    def prepare(self, read: _Read) -> np.ndarray:
        """The image, a grey one as u8[H, W, 1]."""
        return read.image[..., :1] if read.grey else read.image

    def parts(self, read: _Read, prepared: np.ndarray) -> Restoring:
        """The tiles of the image."""
        del read
        return self.restorer.begin(prepared)


class _Fitting:
    """Predicts for images that are brought to the size of the network's input, or are cut up.

    Args:
      task: of any kind but restoration.
      variables: of the network.
      batch_size: of the network.
      compiled: `predictions_of`, jitted.
    """

    def __init__(self, task: Task, variables: Any, batch_size: int, compiled: Callable[..., Any]):
        functions = _Functions(task.prepare, task.forward, task.decode)
        self._task, self._batch_size = task, batch_size
        self._compiled = functools.partial(compiled, functions, variables)
        self._convert = CONVERT.get(task.kind, lambda task, decoded, placement, size: decoded)
        self._tiled = None
        if task.kind == "segmentation" and task.inputs.resize is None:
            # A task that is made by hand may lack these fields.
            average = getattr(task, "tile_average", False)
            of_tiles = functions._replace(decode=task.scores) if average else functions
            label = functools.partial(compiled, of_tiles, variables)
            self._tiled = _Tiled(task, variables, label, batch_size)

    def prepare(self, read: _Read) -> FittedImage | np.ndarray:
        """The input of the network, or the image u8[H, W, C] where that is cut into tiles."""
        image = with_channels(read.image, self._task.inputs.channels)
        if self._tiled is not None and self._tiled.applies(image):
            return image
        return fit(image, self._task.inputs)

    def parts(self, read: _Read, prepared: FittedImage | np.ndarray) -> _Image:
        """The one input of the image, or its tiles."""
        del read
        if isinstance(prepared, FittedImage):
            return _Whole(self, prepared)
        return self._tiled.tiles(prepared)

    def run(self, images: Sequence[FittedImage]) -> Any:
        """Starts to predict for the inputs of a batch."""
        return self._compiled(image_batch(images, self._batch_size))

    def convert(self, decoded: Any, image: FittedImage) -> Any:
        """The result for an image."""
        return self._convert(self._task, decoded, image.placement, image.size)


class _Whole:
    """An image that is one input of the network."""

    def __init__(self, way: _Fitting, image: FittedImage):
        self._way, self._image = way, image
        self._decoded: Any = None
        self.run, self.shape = way.run, image.image.shape

    def __len__(self) -> int:
        return 1

    def __getitem__(self, number: int) -> FittedImage:
        return self._image

    def put(self, number: int, output: Any) -> None:
        """Takes what was decoded."""
        self._decoded = output

    def result(self) -> Any:
        """The result, in pixels of the original image."""
        return self._way.convert(self._decoded, self._image)


class _Tiled:
    """Labels images of any size by tiles, with the function that labels batches.

    Args:
      task: of segmentation.
      variables: of the network.
      run: (batch) -> int[B, h, w], or the probabilities f32[B, h, w, K], jitted.
      batch_size: tiles in a batch.
    """

    def __init__(
        self, task: Task, variables: Any, run: Callable[[ImageBatch], Array], batch_size: int
    ):
        self._batch_size, self._size = batch_size, task.inputs.size
        self._run = lambda images: run(_whole(images))
        like = _whole(np.zeros((batch_size, *task.inputs.shape), np.uint8))
        outputs = jax.eval_shape(functools.partial(outputs_of, task), variables, like)
        self._labelled = jax.eval_shape(run, like).shape[1:3]
        self._step = stride_of_maps(outputs if isinstance(outputs, Mapping) else ())
        self._how = {
            name: getattr(task, f"tile_{name}")
            for name in ("overlap", "average")
            if hasattr(task, f"tile_{name}")
        }

    def applies(self, image: np.ndarray) -> bool:
        """Whether the network cannot label the image u8[H, W, C] as a whole."""
        return image.shape[:2] != self._size or self._labelled != self._size

    def tiles(self, image: np.ndarray) -> LabelTiles:
        """The tiles of an image u8[H, W, C]."""
        return LabelTiles(
            self._run,
            image,
            tile=self._size,
            labelled=self._labelled,
            step=self._step,
            batch_size=self._batch_size,
            **self._how,
        )
