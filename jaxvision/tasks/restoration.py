"""Restoration: images without the noise, or with the detail, that they lack."""

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array

from jaxvision.augment import rgb_to_grey, rgb_to_ycbcr
from jaxvision.core import (
    DatasetMetric,
    InputError,
    Inputs,
    OptionError,
    Record,
    RestorationBatch,
    Summary,
    Task,
    Terms,
    check_range,
    describe,
    divide,
    lookup,
    option_errors,
    restore,
)
from jaxvision.data.sources.tiles import BORDERS, kept_places
from jaxvision.losses import l2_loss
from jaxvision.metrics.restoration import SSIM_WINDOW, ssim
from jaxvision.ops import resize_bicubic
from jaxvision.tasks.building import (
    as_terms,
    augment_of,
    check_augment,
    check_loss,
    check_map,
    crop_centre,
    described,
    forward_of,
    init_of,
    maps_of_image,
    synchronised,
    with_key_and_step,
)
from jaxvision.tasks.degradations import Degradation, GaussianNoise
from jaxvision.tasks.names import NAMES
from jaxvision.tasks.reach import reach_of


class Color(NamedTuple):
    """What of an image is restored.

    Attributes:
      channels: how many.
      take: RGB u8[H, W, 3] -> f32[H, W, channels], in 0..255; not of grey images, which are used as
        they are.
    """

    channels: int
    take: Callable[[Array], Array]


COLORS = {
    "rgb": Color(3, lambda image: image.astype(jnp.float32)),
    "grey": Color(1, lambda image: jnp.round(rgb_to_grey(image))),
    "luminance": Color(1, lambda image: jnp.round(rgb_to_ycbcr(image)[..., :1])),
}
"""Colours by name: all channels; the grey in 0..255; or the Y of YCbCr in 16..235, as MATLAB's
rgb2ycbcr gives it, on which super-resolution is measured. The last two are rounded to 8 bits, and
are the values themselves of a grey image, in 0..255: those are not compressed to 16..235."""

log = logging.getLogger(__name__)

NUMBERS = ("psnr", "ssim", "psnr_before", "ssim_before")
_MOST_DB = 100.0  # of an image without any error


@dataclass(frozen=True)
class Restoration(Task):
    """A task of restoration, with what prediction needs to know of it.

    Attributes:
      color: "rgb"; "grey", of each channel by itself; or "luminance", which leaves the colours.
      factor: by which an image is enlarged; 1 by a denoiser.
      enlarged: whether the network takes images that are enlarged already.
      tile: pixels a side of the tiles that cover large images, before they are degraded.
      margin: of them, the pixels along the border whose results are not kept.
      crop_border: pixels along the border of images that the metrics leave out.
      modcrop: images are cropped to sides that are multiples of this number, to be measured.
      border: what tiles have beyond the border of an image, see `jaxvision.data.tile_origins`.
    """

    color: str = "rgb"
    factor: int = 1
    enlarged: bool = False
    tile: int = 128
    margin: int = 16
    crop_border: int = 0
    modcrop: int = 1
    border: str = "reflect"


def restoration(
    model: nn.Module,
    inputs: Inputs,
    *,
    degradation: Degradation = GaussianNoise(),
    color: str = "rgb",
    loss: Callable[..., Any] | None = l2_loss,
    augment: Sequence[Any] = (),
    tile: int = 128,
    margin: int | None = None,
    crop_border: int = 0,
    modcrop: int = 1,
    border: str = "reflect",
    sync_batch_norm: bool = True,
) -> Restoration:
    """Creates the task of restoring images that are degraded on the way.

    Square patches of images are degraded on the device: in training anew in each step, in
    evaluation by the example's seed. `decode` gives the restored image f32[h, w, C], rounded, in
    0..255. The metrics are those of whole images, put together from what tiles keep (see
    `jaxvision.data.tile_origins`) and rounded to 8 bits: "psnr" and "ssim", means over the images,
    and "psnr_before" and "ssim_before" of the degraded images, bicubically enlarged if they are
    smaller. Windows of SSIM that reach beyond an image do not count. `jaxvision.tasks.protocol`
    gives the options that measure as a paper does. `Tiles` needs the task's `tile` (as its `size`),
    `margin`, `modcrop` and `border`.

    Args:
      model: a network that gives "image", f32[B, h, w, C].
      inputs: `size` of the patches to train on.
      degradation: what is to be undone, see `jaxvision.tasks.degradations`.
      color: "rgb"; "grey"; or "luminance", which is the Y of MATLAB's rgb2ycbcr, in 16..235. A grey
        image is used as it is, in 0..255.
      loss: (restored f32[h, w, C], target f32[h, w, C], both in 0..1) -> (total, weight), or named
        pairs of that form. It gets `key` and `step` too, if its signature names them. None: a task
        for evaluation only.
      augment: augmentations, see `jaxvision.augment`, one after the other; before the degradation.
      tile: pixels a side of the tiles that cover images in evaluation and prediction.
      margin: of them, the pixels along the border whose results are not kept. None: as many as the
        degradation, the network and SSIM look away from a pixel, so that tiles give what the whole
        image gives. Fewer are refused, unless `loss` is None. A network that looks at the whole
        image, such as one with squeeze-and-excitation or attention, needs a number: its tiles never
        give quite what the whole image gives.
      crop_border: pixels along the border of images that the metrics leave out.
      modcrop: `Tiles` crops images to sides that are multiples of this number.
      border: what tiles have beyond the border of an image: "reflect", "symmetric" or "zeros", see
        `jaxvision.data.tile_origins`.
      sync_batch_norm: whether batch norms use the statistics of the batches of all devices, so that
        losses do not depend on the number of devices. False: those of each device's part, which
        saves two all-reduces a norm; the running statistics are the means over the devices.
    Raises:
      OptionError: an option is out of range, or does not fit the others.
    """
    of_color = lookup(COLORS, color, "color")
    if inputs.channels != 3:
        raise OptionError(
            "channels",
            f"channels is {inputs.channels}: give 3, as images are read in RGB; color says what of "
            "them is restored",
        )
    network, augmentation = synchronised(model, sync_batch_norm), augment_of(augment)

    def prepare(example: RestorationBatch) -> RestorationBatch:
        target = of_color.take(example.image)
        if example.grey is not None and of_color.channels == 1:
            target = jnp.where(example.grey, example.image[..., :1].astype(jnp.float32), target)
        image = degradation(jax.random.key(example.seed), target)
        return example.replace(image=image / 255, target=target / 255)

    def degraded(side: int, what: str) -> tuple[int, ...]:
        """Shape of what the network gets of a square of a side."""
        square = jnp.zeros((side, side, of_color.channels))
        with option_errors("degradation"):
            try:
                return jax.eval_shape(degradation, jax.random.key(0), square).shape
            except ValueError as error:
                raise ValueError(f"of squares of {what}, {side} pixels: {error}") from error

    def restored(side: int, what: str) -> tuple[int, ...]:
        """Shape of what the network gives of it."""
        maps = maps_of_image(network, degraded(side, what))
        what = f"channels of color {color!r}"
        check_map(maps, "image", of_color.channels, what, how="{} channels")
        return maps["image"].shape

    height, width, _ = inputs.shape
    size = height, width
    nothing = RestorationBatch(
        image=jnp.zeros(inputs.shape, jnp.uint8),
        seed=jnp.uint32(0),
        photograph=jnp.int32(0),
        origin=jnp.zeros(2, jnp.int32),
        size=jnp.array(size, jnp.int32),
        mask=jnp.bool_(True),
        extent=jnp.array(size, jnp.int32),
    )
    check_augment(augmentation, nothing)
    if height != width:
        raise OptionError("size", f"size is {size}: patches are square")
    shape = restored(height, "size")
    lost = [_lost(restored, side, what) for side, what in ((height, "size"), (tile, "tile"))]
    check_range("crop_border", crop_border, least=0)
    check_range("modcrop", modcrop, least=1)
    lookup(BORDERS, border, "border")
    if border == "zeros" and lost[1]:
        raise OptionError(
            "border",
            f"border is 'zeros', but model takes {lost[1]} pixels off each side: give 'reflect' or "
            "'symmetric'",
        )
    if border == "zeros" and modcrop % degradation.factor:
        raise OptionError(
            "modcrop",
            f"modcrop is {modcrop}: with border 'zeros' give a multiple of {degradation.factor}",
        )
    reach = lost[1]
    if loss is not None or margin is None:
        reach = reach_of(model, degradation, channels=of_color.channels, side=tile)
    if margin is not None and reach == tile:
        log.warning(
            "a restored pixel depends on the whole tile of %d pixels or on more, so tiles do not "
            "give quite what the whole image gives, with margin %d",
            tile,
            margin,
        )
        reach = lost[1]
    margin = _checked_margin(margin, reach, tile, degradation.factor)
    task_loss = None
    if loss is not None:
        check_loss("loss", loss, *[jnp.zeros(shape)] * 2, term="restoration_loss")
        task_loss = _loss_of(loss)

    def augment_and_reseed(key: Array, example: RestorationBatch) -> RestorationBatch:
        augment_key, noise = jax.random.split(key)
        example = augmentation(augment_key, example)
        return example.replace(seed=jax.random.bits(noise, dtype=jnp.uint32))

    def collect(outputs: Any, example: RestorationBatch) -> dict[str, Array]:
        found = _decode(outputs, example)
        size = found.shape[:2]
        before = _to_uint8(resize_bicubic(example.image, example.target.shape[:2]))
        target, before = (crop_centre(x, size) for x in (255 * example.target, before))
        row_is, column_is = (
            _counted(side, origin, length, crop_border, tile=tile, margin=margin, border=border)
            for side, origin, length in zip(size, example.origin, example.size, strict=True)
        )
        pixels = row_is.pixel[:, None] & column_is.pixel[None]
        windows = row_is.window[:, None] & column_is.window[None]
        numbers = {"photograph": example.photograph}
        for kind, image in (("", found), ("_before", before)):
            error = jnp.where(pixels[..., None], (image - target) ** 2, 0)
            similarity, _ = ssim(image, target, windows, data_range=255)
            numbers |= {
                f"squares{kind}": error.sum() / of_color.channels,
                f"similarity{kind}": similarity * windows.sum(),
            }
        return {**numbers, "pixels": pixels.sum(), "windows": windows.sum()}

    forward = forward_of(network)
    how = {
        "color": color,
        "tile": tile,
        "margin": margin,
        "crop_border": crop_border,
        "modcrop": modcrop,
        "border": border,
    }
    return Restoration(
        init=init_of(network, degraded(height, "size")),
        augment=augment_and_reseed,
        prepare=prepare,
        forward=forward,
        loss=task_loss,
        metrics=lambda outputs, example: {},
        decode=_decode,
        kind="restoration",
        inputs=inputs,
        dataset_metric=DatasetMetric(
            NUMBERS, collect, partial(_summarize, crop_border=crop_border)
        ),
        partners=augmentation.partners,
        sync_batch_norm=sync_batch_norm,
        origin={
            "inputs": (inputs, describe(inputs, NAMES)),
            "forward": (forward, described(model=model)),
            "prepare": (prepare, {**described(degradation=degradation), **how}),
            "loss": (task_loss, described(loss=loss)),
            "augment": (augment_and_reseed, described(augment=tuple(augment))),
            "decode": (_decode, {}),
        },
        factor=degradation.factor,
        enlarged=degradation.enlarged,
        **how,
    )


def undegraded(task: Restoration) -> Restoration:
    """Returns the task whose `prepare` degrades nothing: the network gets images as they are.

    Args:
      task: of restoration. An image whose three channels are the same counts as grey.
    """
    of_color = COLORS[task.color]

    def prepare(example: Any) -> Any:
        image = example.image.astype(jnp.float32)
        if of_color.channels == 1:
            grey = image[..., :1]
            image = jnp.where(jnp.all(image == grey), grey, of_color.take(example.image))
        return example.replace(image=image / 255)

    return dataclasses.replace(task, prepare=prepare)


def restore_restoration(parts: Mapping[str, Any]) -> Restoration:
    """The task for evaluation that a description tells of: without loss and augmentation.

    Args:
      parts: "inputs", "forward" and "prepare" of the description.
    Raises:
      InputError: the network or the degradation has no name in the library.
    """
    names = ("color", "tile", "margin", "crop_border", "modcrop", "border")
    how = {name: parts["prepare"][name] for name in names if name in parts["prepare"]}
    return restoration(
        restore(parts["forward"]["model"], NAMES),
        restore(parts["inputs"], NAMES),
        degradation=restore(parts["prepare"]["degradation"], NAMES),
        loss=None,
        **how,
    )


def _decode(outputs: Any, example: Any) -> Array:
    del example
    return _to_uint8(outputs["image"])


def _loss_of(function: Callable[..., Any]) -> Callable[..., Terms]:
    example_loss = with_key_and_step(function)

    def loss(outputs: Any, example: RestorationBatch, *, key: Array, step: Array) -> Terms:
        image = outputs["image"]
        target = crop_centre(example.target, image.shape[:2])
        return as_terms(example_loss(image, target, key=key, step=step), "restoration_loss")

    return loss


def _lost(restored: Callable[[int, str], tuple[int, ...]], side: int, what: str) -> int:
    """Pixels that a network without padding takes off each side of a square.

    Args:
      restored: (side, name of the option) -> shape of what the network makes of such squares.
      side: of the square.
      what: name of the option that gives it.
    Raises:
      OptionError: the network makes another size of it.
    """
    result = restored(side, what)[0]
    if result > side or (side - result) % 2:
        raise OptionError(
            "model",
            f"model makes {result} x {result} pixels of degraded squares of {side} x {side}: "
            "change the model or the degradation",
        )
    return (side - result) // 2


def _checked_margin(margin: int | None, reach: int, tile: int, factor: int) -> int:
    """The margin of the tiles; None becomes the least one.

    Args:
      margin: as given.
      reach: pixels to each side on which a restored pixel depends; `tile`: all of the tile.
      tile: side of the tiles.
      factor: of the degradation.
    Raises:
      OptionError: the margin is too small or too large, or the tile is too small for any.
    """
    if reach == tile:
        raise OptionError(
            "tile",
            f"tile is {tile}, and a restored pixel depends on all of it: give a larger tile; or a "
            "margin, if the network looks at the whole image, as with squeeze-and-excitation, "
            "instance norm or attention",
        )
    least = reach + SSIM_WINDOW // 2  # so far a window reaches beyond what a tile keeps
    fitting = -(-least // factor) * factor
    if 2 * fitting >= tile:
        raise OptionError(
            "tile",
            f"tile is {tile}: give more than {2 * fitting}, as a restored pixel depends on pixels "
            f"{reach} away",
        )
    margin = fitting if margin is None else margin
    check_range("margin", margin, least=least, less_than=tile / 2)
    if margin % factor:
        raise OptionError("margin", f"margin is {margin}: give a multiple of {factor}")
    return margin


def _to_uint8(image: Array) -> Array:
    """As an image of 8 bits, but f32[...]: of values in 0..1, rounded."""
    return jnp.round(jnp.clip(255 * image, 0, 255))


class _Counted(NamedTuple):
    """Which rows (or columns) of a result count in the measure, and which begin windows of SSIM.

    Attributes:
      pixel: bool[S].
      window: bool[S - 10].
    """

    pixel: Array
    window: Array


def _counted(
    side: int,
    origin: Array,
    length: Array,
    crop_border: int,
    *,
    tile: int,
    margin: int,
    border: str,
) -> _Counted:
    """What counts along an axis of a tile.

    Args:
      side: S, of the result, the tile's middle.
      origin: i32[], where the tile begins in the photograph.
      length: i32[], of the photograph.
      crop_border: pixels along its border that do not count.
      tile: side of the tile.
      margin: around what it keeps.
      border: what the tile has beyond the photograph.
    """
    place = origin + jnp.arange(side) + (tile - side) // 2
    first, after = kept_places(origin, length, tile=tile, margin=margin, border=border)

    def within(place: Array, least: int) -> Array:
        kept = (place >= first) & (place < after)
        return kept & (place >= least) & (place < length - least)

    reach = SSIM_WINDOW // 2
    return _Counted(
        within(place, crop_border), within(place[reach : side - reach], crop_border + reach)
    )


def _summarize(
    collected: dict[str, np.ndarray], records: Sequence[Record], *, crop_border: int
) -> Summary:
    """The means over images of what `collect` gave of their tiles.

    Raises:
      InputError: nothing is left of an image without its border.
    """
    del records
    _, photograph = np.unique(collected["photograph"], return_inverse=True)

    def total(name: str) -> np.ndarray:
        return np.bincount(photograph, weights=collected[name])

    if not len(photograph):
        return Summary(dict.fromkeys(NUMBERS, 0.0), {})
    if not total("pixels").all():
        raise InputError(
            f"crop_border is {crop_border}, which leaves nothing of an image: lower it, or leave "
            "out the images that are so small"
        )
    numbers: dict[str, float] = {}
    for kind in ("", "_before"):
        mse = total(f"squares{kind}") / total("pixels") / 255**2
        db = -10 * np.log10(np.maximum(mse, 10 ** (-_MOST_DB / 10)))
        similarity = divide(total(f"similarity{kind}"), total("windows"))
        numbers |= {f"psnr{kind}": float(db.mean()), f"ssim{kind}": float(similarity.mean())}
    return Summary({name: numbers[name] for name in NUMBERS}, {})
