"""From images to predictions: one compiled function, and files one after the other."""

import itertools
import pathlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxvision.core import InputError, Task, check_array, check_range
from jaxvision.data import Placement, place, read_image

Predict = Callable[[Any, Array], Any]
"""(variables, images u8[B, H, W, 3]) -> what `Task.decode` gives, with a leading B axis."""


@dataclass(frozen=True)
class Predictor:
    """A network that is ready for images.

    Attributes:
      predict: all of it as one compiled function.
      variables: of the network.
      image_size: (height, width) that it takes.
      resize: how images are brought to that size, a key of `jaxvision.data.PLACEMENTS`.
      class_names: of the labels.
    """

    predict: Predict
    variables: Any
    image_size: tuple[int, int]
    resize: str
    class_names: tuple[str, ...]


@flax.struct.dataclass
class Images:
    """What `Task.prepare` and `Task.forward` need of a batch when nothing but images is known."""

    image: Array


def maps_of_task(task: Task, variables: Any, images: Array) -> Any:
    """What the network of a task gives.

    Args:
      task: whose `prepare` and `forward` look at images only.
      variables: of the network.
      images: u8[B, H, W, 3].
    """
    images = check_array("images", images, ("B", "H", "W", "C"), "number")
    batch = jax.vmap(task.prepare)(Images(images))
    outputs, _ = task.forward(variables, batch, keys=None, step=jnp.int32(0), train=False)
    return outputs


def predict_of_task(task: Task) -> Predict:
    """The prediction of a task, compiled.

    Args:
      task: as for `maps_of_task`.
    """
    return jax.jit(
        lambda variables, images: jax.vmap(task.decode)(maps_of_task(task, variables, images))
    )


class Predicted(NamedTuple):
    """What was predicted for a file.

    Attributes:
      path: of the file.
      image: u8[H, W, 3].
      placement: where it lay in the network's input.
      outputs: of `Predictor.predict`, without the B axis, on the host.
    """

    path: pathlib.Path
    image: np.ndarray
    placement: Placement
    outputs: Any


class Failed(NamedTuple):
    """A file that could not be read, and why."""

    path: pathlib.Path
    reason: str


def read_images(
    paths: Sequence[pathlib.Path],
) -> Iterator[tuple[pathlib.Path, np.ndarray] | Failed]:
    """Path and image u8[H, W, 3] of each file, or why it cannot be read."""
    for path in paths:
        try:
            yield path, read_image(path)
        except InputError as error:
            yield Failed(path, str(error))


def predict_in_files(
    predictor: Predictor, paths: Sequence[pathlib.Path], *, batch_size: int = 1
) -> Iterator[Predicted | Failed]:
    """What a network predicts for files, in their order.

    Args:
      predictor: the network.
      paths: of the images.
      batch_size: images that are looked at together; filled up with black, so that nothing compiles
        twice.
    """
    check_range("batch_size", batch_size, least=1)
    images = read_images(paths)
    while batch := list(itertools.islice(images, batch_size)):
        yield from _predict(predictor, batch, batch_size)


def _predict(
    predictor: Predictor, batch: list[Any], batch_size: int
) -> Iterator[Predicted | Failed]:
    inputs = np.zeros((batch_size, *predictor.image_size, 3), np.uint8)
    placements = {}
    for number, item in enumerate(batch):
        if not isinstance(item, Failed):
            inputs[number], placements[number] = place(
                item[1], predictor.image_size, method=predictor.resize
            )
    found = jax.device_get(predictor.predict(predictor.variables, inputs)) if placements else None
    for number, item in enumerate(batch):
        if isinstance(item, Failed):
            yield item
        else:
            outputs = jax.tree.map(lambda x, i=number: x[i], found)
            yield Predicted(*item, placements[number], outputs)
