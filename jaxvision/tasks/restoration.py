"""Restoration: images without the noise, or with the detail, that they lack."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxvision import augment as aug
from jaxvision.core import (
    AXIS,
    InputError,
    RestorationBatch,
    Task,
    Terms,
    check_range,
    divide,
    lookup,
)
from jaxvision.losses import huber_loss, l1_loss, l2_loss, smooth_l1_loss
from jaxvision.metrics.restoration import SSIM_WINDOW, ssim
from jaxvision.models import create_model
from jaxvision.ops import resize_bicubic
from jaxvision.tasks.settings import (
    check_pair,
    find_loss,
    forward_of,
    middle,
    model_of,
    naming,
)

LOSSES: dict[str, Callable[..., tuple[Array, Array]]] = {
    "l1_loss": l1_loss,
    "l2_loss": l2_loss,
    "huber_loss": huber_loss,
    "smooth_l1_loss": smooth_l1_loss,
}
"""What `config.loss.name` may be, besides a function of the user's: (restored f32[H, W, C], target
f32[H, W, C], options) -> (total, weight)."""


class Color(NamedTuple):
    """What of an image is restored.

    Attributes:
      channels: how many.
      take: RGB u8[H, W, 3] -> f32[H, W, channels], in 0..255.
    """

    channels: int
    take: Callable[[Array], Array]


COLORS = {
    "rgb": Color(3, lambda image: image.astype(jnp.float32)),
    "grey": Color(1, aug.rgb_to_grey),
    "luminance": Color(1, lambda image: aug.rgb_to_ycbcr(image)[..., :1]),
}
"""What `config.data.color` may be: all channels, the grey in 0..255, or the Y of YCbCr in 16..235,
on which super-resolution is measured."""

Degradation = Callable[..., Array]
"""(key, image f32[H, W, C] in 0..255, options) -> f32[h, w, C]."""

DEGRADATIONS: dict[str, Degradation] = {
    "gaussian_noise": aug.random_gaussian_noise,
    "downscale": lambda key, image, *, factor: aug.downscale(image, factor=factor),
    "downscale_upscale": lambda key, image, *, factor: aug.downscale_upscale(image, factor=factor),
}
"""What `config.degradation.name` may be: what the network is to undo. After "downscale" its images
are smaller by the factor, and the network enlarges them."""

_MOST_DB = 100.0  # of an image without any error


def restoration(config: Any) -> Task:
    """The task of a restoration config.

    Squares of photographs are spoilt on the device, in training each time anew; in an evaluation
    by the example's seed. The measure is taken of whole photographs, put together from what tiles
    keep (see `jaxvision.data.transforms.tiles`) and rounded to 8 bits: "psnr" and "ssim", means
    over the photographs, and "psnr_before" and "ssim_before" of the spoilt ones, bicubically enlarged if
    they are smaller. Windows of SSIM that reach beyond a photograph do not count.

    Args:
      config: with the fields `model` (name and fields), `data` (image_size, tile, margin, color),
        `degradation` (name and options), `augment` (symmetry) and `loss` (name and options); see
        `jaxvision.cli.config.default_config`.
    Raises:
      InputError: a setting that does not fit the others.
    """
    data = config.data
    color = lookup(COLORS, data.color, "config.data.color")
    options = dict(config.degradation)
    degrade = partial(lookup(DEGRADATIONS, options.pop("name"), "degradation"), **options)
    name, fields = model_of(config)
    model = create_model(name, axis_name=AXIS, **fields)

    def prepare(example: RestorationBatch) -> RestorationBatch:
        target = color.take(example.image)
        image = degrade(jax.random.key(example.seed), target)
        return example.replace(image=image / 255, target=target / 255)

    def spoilt(setting: str) -> Array:
        """Zeros, as the network gets them of a square of the setting's side."""
        square = jnp.zeros((data[setting],) * 2 + (color.channels,))
        with naming(f"config.degradation, of squares of config.data.{setting}"):
            return jnp.zeros((1, *jax.eval_shape(degrade, jax.random.key(0), square).shape))

    images = spoilt("image_size")

    def init(key: Array) -> dict[str, Any]:
        return model.init(key, images, train=False)

    def restored(images: Array) -> Array:
        """Zeros, as the network gives them."""
        with naming("config.model"):
            key = jax.random.key(0)
            maps, _ = jax.eval_shape(lambda: model.init_with_output(key, images, train=False))
        return jnp.zeros(maps["image"].shape[1:])

    _check_sides(config, name, lambda setting: restored(spoilt(setting)).shape[0])
    image = restored(images)
    example_loss = find_loss(LOSSES, config.loss, image, image)
    with naming("config.loss"):
        check_pair(jax.eval_shape(example_loss, image, image))

    def augment(key: Array, example: RestorationBatch) -> RestorationBatch:
        turn, noise = jax.random.split(key)
        image = example.image
        if config.augment.symmetry:
            image = aug.random_symmetry(turn, image)
        return example.replace(image=image, seed=jax.random.bits(noise, dtype=jnp.uint32))

    def loss(outputs: Any, example: RestorationBatch, *, key: Array, step: Array) -> Terms:
        del key, step
        image = outputs["image"]
        target = middle(example.target, image.shape[:2])
        return {"restoration_loss": example_loss(image, target)}

    def decode(outputs: Any) -> Array:
        return _to_uint8(outputs["image"])

    def collect(outputs: Any, example: RestorationBatch) -> dict[str, Array]:
        found = decode(outputs)
        size = found.shape[:2]
        before = _to_uint8(resize_bicubic(example.image, example.target.shape[:2]))
        target, before = (middle(x, size) for x in (255 * example.target, before))
        row_is, column_is = (
            _counted(side, origin, length, tile=data.tile, margin=data.margin)
            for side, origin, length in zip(size, example.origin, example.size, strict=True)
        )
        pixels = row_is.pixel[:, None] & column_is.pixel[None]
        windows = row_is.window[:, None] & column_is.window[None]
        numbers = {"photograph": example.photograph}
        for kind, image in (("", found), ("_before", before)):
            error = jnp.where(pixels[..., None], (image - target) ** 2, 0)
            similarity, _ = ssim(image, target, windows, data_range=255)
            numbers |= {
                f"squares{kind}": error.sum() / color.channels,
                f"similarity{kind}": similarity * windows.sum(),
            }
        return {**numbers, "pixels": pixels.sum(), "windows": windows.sum()}

    return Task(
        init=init,
        augment=augment,
        prepare=prepare,
        forward=forward_of(model),
        loss=loss,
        metrics=lambda outputs, example: {},
        decode=decode,
        collect=collect,
        summarize=_summarize,
    )


def _check_sides(config: Any, name: str, made: Callable[[str], int]) -> None:
    """Raises InputError if patches, tiles, margin and network do not fit together.

    Args:
      config: of the run.
      name: of the network.
      made: setting of `config.data` -> side of what the network makes of squares of that side.
    """
    data, lost = config.data, {}
    for setting in ("image_size", "tile"):
        result, side = made(setting), data[setting]
        if result > side or (side - result) % 2:
            raise InputError(
                f"{name} makes {result} x {result} pixels of squares of {side} x {side} after "
                f"{config.degradation.name}: change config.model or config.degradation"
            )
        lost[setting] = (side - result) // 2
    least = lost["tile"] + SSIM_WINDOW // 2  # so far a window reaches beyond what a tile keeps
    check_range("config.data.margin", data.margin, least=least, less_than=data.tile / 2)
    factor = config.degradation.get("factor", 1)
    if data.margin % factor:
        raise InputError(f"config.data.margin is {data.margin}: give a multiple of {factor}")


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


def _counted(side: int, origin: Array, length: Array, *, tile: int, margin: int) -> _Counted:
    """What counts along an axis of a tile.

    Args:
      side: S, of the result, the tile's middle.
      origin: i32[], where the tile begins in the photograph.
      length: i32[], of the photograph.
      tile: side of the tile.
      margin: around what it keeps.
    """
    inside = jnp.arange(side) + (tile - side) // 2
    place = origin + inside
    pixel = (inside >= margin) & (inside < tile - margin) & (place >= 0) & (place < length)
    reach = SSIM_WINDOW // 2
    middle_of = slice(reach, side - reach)
    whole = (place[middle_of] >= reach) & (place[middle_of] < length - reach)
    return _Counted(pixel, pixel[middle_of] & whole)


def _summarize(collected: dict[str, np.ndarray]) -> dict[str, float]:
    """The means over photographs of what `collect` gave of their tiles."""
    names = ("psnr", "ssim", "psnr_before", "ssim_before")
    _, photograph = np.unique(collected["photograph"], return_inverse=True)

    def total(name: str) -> np.ndarray:
        return np.bincount(photograph, weights=collected[name])

    if not len(photograph):
        return dict.fromkeys(names, 0.0)
    numbers = {}
    for kind in ("", "_before"):
        mse = total(f"squares{kind}") / total("pixels") / 255**2
        db = -10 * np.log10(np.maximum(mse, 10 ** (-_MOST_DB / 10)))
        similarity = divide(total(f"similarity{kind}"), total("windows"))
        numbers |= {f"psnr{kind}": float(db.mean()), f"ssim{kind}": float(similarity.mean())}
    return {name: numbers[name] for name in names}
