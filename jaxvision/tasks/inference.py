"""Runs the network of a task without training it, as prediction and feature extraction do."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.core import ImageBatch, Inputs, Task, check_array
from jaxvision.data.transforms.placing import extent_in, fit_image
from jaxvision.ops.placement import Placement

K = TypeVar("K")


class FittedImage(NamedTuple):
    """An image that has the size of the network's input.

    Attributes:
      image: u8[H, W, C], as `jaxvision.data.transforms.placing.fit_image` gives it.
      placement: where the original image lies in it.
      size: (height, width) of the original image.
      extent: (height, width) of the image in the input, without padding; None: all of it.
    """

    image: np.ndarray
    placement: Placement
    size: tuple[int, int]
    extent: np.ndarray | None = None


def fit(image: np.ndarray, inputs: Inputs) -> FittedImage:
    """Brings an image to the size of a network's input; see `fit_image`.

    Raises:
      InputError: the image has another size, and `inputs.resize` is None.
    """
    size = image.shape[:2]
    placed, placement = fit_image(image, inputs)
    return FittedImage(placed, placement, size, extent_in(inputs, placed, placement, size))


def by_shape(images: Mapping[K, FittedImage], most: int) -> Iterator[list[K]]:
    """Groups images whose inputs have one shape.

    Args:
      images: key -> image.
      most: images in a group.
    Yields:
      the keys of the images of a group, in their order.
    """
    groups: dict[tuple[int, ...], list[K]] = {}
    for key, fitted in images.items():
        groups.setdefault(fitted.image.shape, []).append(key)
    for keys in groups.values():
        for start in range(0, len(keys), most):
            yield keys[start : start + most]


def image_batch(images: Sequence[FittedImage], batch_size: int) -> ImageBatch:
    """Makes a batch of images, on the host.

    Args:
      images: at least one and at most `batch_size`, all of one shape.
      batch_size: B. What is missing is filled up with black images, whose `mask` is False, so that
        a compiled function sees one shape.
    Returns:
      the batch, with `placement`, `size` and `extent`, as in the transforms of `jaxvision.data`.
    """
    height, width = images[0].image.shape[:2]
    missing = batch_size - len(images)
    filler = FittedImage(
        np.zeros_like(images[0].image), Placement(1, 1, 0, 0), (int(height), int(width))
    )
    pixels, placements, sizes, extents = zip(*images, *[filler] * missing, strict=True)
    whole = (height, width)
    return ImageBatch(
        image=np.stack(pixels),
        mask=np.arange(batch_size) < len(images),
        extent=np.array([whole if extent is None else extent for extent in extents], np.int32),
        placement=np.array(placements, np.float32),
        size=np.array(sizes, np.int32),
    )


def outputs_of(task: Task, variables: Any, batch: Any) -> Any:
    """Runs `prepare` and `forward` of a task.

    Args:
      task: only its `prepare` and `forward` are used.
      variables: of the network.
      batch: `ImageBatch` or any other batch struct, with `image` u8[B, H, W, C].
    Returns:
      what `task.forward` gives for evaluation, with a leading B axis.
    Raises:
      AssertionError: the images have another shape.
    """
    outputs, _ = _prepared(task, variables, batch)
    return outputs


def predictions_of(task: Task, variables: Any, batch: Any) -> Any:
    """Runs `prepare`, `forward` and `decode` of a task.

    Args:
      task: only these three of its fields are used.
      variables: of the network.
      batch: as for `outputs_of`.
    Returns:
      what `task.decode` gives, with a leading B axis.
    Raises:
      AssertionError: the images have another shape.
    """
    return jax.vmap(task.decode)(*_prepared(task, variables, batch))


def _prepared(task: Task, variables: Any, batch: Any) -> tuple[Any, Any]:
    """(outputs, prepared batch)."""
    images = check_array("batch.image", batch.image, ("B", "H", "W", "C"), "number")
    batch = jax.vmap(task.prepare)(batch.replace(image=images))
    outputs, _ = task.forward(variables, batch, keys=None, step=jnp.int32(0), train=False)
    return outputs, batch
