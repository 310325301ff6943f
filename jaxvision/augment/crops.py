"""Crops and zooms of the recipes of detectors: SSD's IoU crop and zoom-out, large-scale jitter."""

import math
from dataclasses import dataclass
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import Array

from jaxvision.augment.geometric import Geometric
from jaxvision.augment.move import Move, apply_move, box_fields, extent_in, only_real, window_move
from jaxvision.augment.options import check_fill, check_limits, check_rule, check_whole
from jaxvision.augment.sampling import GREY, resized_crop_boxes
from jaxvision.core import InputError, OptionError, check_range
from jaxvision.ops import box_area, box_iou

E = TypeVar("E")

MEAN_COLOR = (123.0, 117.0, 104.0)
"""The mean colour of ImageNet's images, rounded, with which recipes of detectors fill."""

_ROUNDS = 24
"""Number of options that `RandomIoUCrop` draws for an image, with `trials` crops for each."""


@dataclass(frozen=True)
class RandomZoomOut(Geometric):
    """Shows the image on a larger canvas, which is shrunk to the size of the image.

    The sides of the canvas are r times those of the image, cut to whole pixels, with r uniform in
    `side`; the position of the image on it is uniform, and the rest is filled. The image becomes
    float32, bilinear without antialiasing. Liu et al. 2016 ("SSD"), section 3.6, with the figures
    of torchvision's RandomZoomOut, which leaves the canvas at its size.

    Attributes:
      probability: probability of the zoom, in [0, 1].
      side: the least and the largest r, at least 1.
      fill: value of the pixels outside the image, in 0..255, or one for each channel.
      least_side: see `clip_and_drop`.
    """

    probability: float = 0.5
    side: tuple[float, float] = (1.0, 4.0)
    fill: float | tuple[float, ...] = GREY
    least_side: float = 1.0

    def __post_init__(self) -> None:
        check_range("probability", self.probability, least=0, most=1)
        side = check_limits("side", self.side, least=1, less_than=math.inf)
        object.__setattr__(self, "side", side)
        object.__setattr__(self, "fill", check_fill(self.fill))
        check_rule(0, self.least_side)

    def window(self, key: Array, extent: Array) -> Array:
        """Draws the canvas, f32[4], xyxy in pixels of the image.

        Args:
          key: key[].
          extent: i32[2], (height, width) of the image without its padding.
        """
        choice_key, side_key, place_key = jax.random.split(key, 3)
        happens = jax.random.bernoulli(choice_key, float(self.probability))
        side = jax.random.uniform(side_key, minval=self.side[0], maxval=self.side[1])
        size = extent[::-1].astype(jnp.float32)
        canvas = jnp.where(happens, jnp.floor(size * side), size)
        corner = -jnp.floor((canvas - size) * jax.random.uniform(place_key, (2,)))
        return jnp.concatenate([corner, corner + canvas])

    def draw(self, key: Array, size: tuple[int, int], extent: Array) -> Move:
        return window_move(self.window(key, extent), size=extent, fill=self.fill)


@dataclass(frozen=True)
class RandomIoUCrop(Geometric):
    """Crops the image around some of its boxes, as SSD does, and resizes the crop to its size.

    One of `options` is drawn, all with equal probability. A number of at least 1 keeps the whole
    image. For a smaller one, up to `trials` crops are drawn: each side is uniform in `scale` times
    that of the image, then the position is uniform, in whole pixels. The first crop is taken whose
    width / height is in `ratio`, which has the centre of at least one box inside, and whose IoU
    with one of the boxes that have their centre inside is at least the option. If there is none,
    another option is drawn. Boxes with their centre inside stay, clipped to the crop; the others
    are dropped. An image without boxes is kept whole. The image becomes float32, bilinear without
    antialiasing.

    This is the rule of torchvision's RandomIoUCrop (Liu et al. 2016, "SSD", section 2.2, asks for
    the same least IoU, but draws the area and the aspect ratio). Two things differ. First, all
    draws are made at once, for 24 options with `trials` crops for each, and the image is kept whole
    if none of them fits. Their order is that of the rule one after the other, so that the first
    crop that fits has the same distribution; only the cases in which none of 24 options fits are
    treated differently. With the default options their share is at most 1 in 40, and so large only
    if hardly any crop fits: then nearly all crops of the rule are whole images too, and the
    distributions differ by less than 0.2 %. Second, the sides and their ratio are in pixels of the
    network's input. If images are stretched to it, the ratio is relative to that of the image, as
    in the paper's code.

    A zoom-out before the crop is an option, so that the image is resampled once. One after the
    other, the zoom would lose the details that the crop enlarges.

    Attributes:
      options: least values of the IoU, at least 0; 1 or more keeps the whole image.
      scale: the least and the largest side of a crop, as a fraction of that of the image: more than
        0, at most 1.
      ratio: the least and the largest width / height of a crop, more than 0.
      trials: number of crops that are drawn for an option, at least 1.
      zoom_out: a zoom-out before the crop, or None.
      least_side: see `clip_and_drop`.
    """

    options: tuple[float, ...] = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
    scale: tuple[float, float] = (0.3, 1.0)
    ratio: tuple[float, float] = (0.5, 2.0)
    trials: int = 40
    zoom_out: RandomZoomOut | None = None
    least_side: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", tuple(self.options))
        if not self.options:
            raise OptionError("options", "options is empty: give at least one least value of IoU")
        for option in self.options:
            check_range("options", option, least=0)
        scale = check_limits("scale", self.scale, more_than=0, most=1)
        ratio = check_limits("ratio", self.ratio, more_than=0, less_than=math.inf)
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "ratio", ratio)
        check_whole("trials", self.trials, least=1)
        check_rule(0, self.least_side)

    def __call__(self, key: Array, example: E) -> E:
        """Crops an example.

        Args:
          key: key[].
          example: a batch struct without its leading axis, with boxes.
        Returns:
          the example; see `apply_move`.
        Raises:
          InputError: the struct has no boxes.
        """
        if box_fields(example) is None:
            raise InputError(
                f"RandomIoUCrop crops around boxes, and a {type(example).__name__} has none: leave "
                "it out"
            )
        mask_name, boxes, real = box_fields(example)
        extent, fill = extent_in(example), GREY
        size = extent[::-1].astype(jnp.float32)
        zoom_key, crop_key = jax.random.split(key)
        seen = jnp.concatenate([jnp.zeros(2), size])
        if self.zoom_out is not None:
            seen, fill = self.zoom_out.window(zoom_key, extent), self.zoom_out.fill
        real &= box_area(boxes) > 0
        boxes = resized_crop_boxes(only_real(boxes, real), seen, size=extent)
        crop, inside = self.crop(crop_key, extent, boxes, real)
        scale = (seen[2:] - seen[:2]) / size
        # For the whole image these are the very numbers of `seen`.
        window = jnp.concatenate(
            [seen[:2] + crop[:2] * scale, seen[2:] - (size - crop[2:]) * scale]
        )
        return apply_move(
            example.replace(**{mask_name: inside}),
            window_move(window, size=extent, fill=fill),
            least_visible=0.0,
            least_side=self.least_side,
        )

    def crop(self, key: Array, extent: Array, boxes: Array, real: Array) -> tuple[Array, Array]:
        """Draws a crop.

        Args:
          key: key[].
          extent: i32[2], (height, width) of the image without its padding.
          boxes: f32[N, 4], xyxy, pixels of the image.
          real: bool[N], False for padding.
        Returns:
          the crop, f32[4], xyxy, pixels of the image; and bool[N], the boxes that stay.
        """
        option_key, side_key, place_key = jax.random.split(key, 3)
        size, shape = extent[::-1].astype(jnp.float32), (_ROUNDS, self.trials)
        least = jax.random.choice(option_key, jnp.array(self.options), shape[:1])[:, None]
        share = jax.random.uniform(
            side_key, (*shape, 2), minval=self.scale[0], maxval=self.scale[1]
        )
        sides = jnp.maximum(jnp.floor(size[None, None] * share), 1)
        corner = jnp.floor((size[None, None] - sides) * jax.random.uniform(place_key, (*shape, 2)))
        crops = jnp.concatenate([corner, corner + sides], axis=-1)
        ratio = sides[..., 0] / sides[..., 1]
        iou = box_iou(crops.reshape(-1, 4), boxes).reshape(*shape, -1)
        iou = jnp.where(_centres_inside(boxes, crops) & real[None, None], iou, -1).max(
            axis=-1, initial=-1
        )
        fits = (ratio >= self.ratio[0]) & (ratio <= self.ratio[1])
        fits &= (iou >= least) & (iou >= 0)
        whole = jnp.concatenate([jnp.zeros(2), size])
        keep = jnp.broadcast_to(least >= 1, shape)
        crops = jnp.where(keep[..., None], whole[None, None], crops).reshape(-1, 4)
        fits = (fits | keep).reshape(-1)
        keeps_whole = keep.reshape(-1) | ~fits.any()
        first = jnp.argmax(fits)
        crop = jnp.where(fits.any(), crops[first], whole)
        return crop, real & (keeps_whole[first] | _centres_inside(boxes, crop))


@dataclass(frozen=True)
class ScaleJitter(Geometric):
    """Changes the size of the image at random and crops or pads it to H x W: large-scale jitter.

    With s uniform in `scale`, the image without its padding gets s times the size at which it fits
    into H x W, cut to whole pixels; its aspect ratio stays. Where it is larger, a crop of H x W is
    taken, at a position that is uniform along each axis. Where it is smaller, it is at the upper
    left, the rest is filled, and the extent becomes that of the image. So the rest is padding, and
    a flip afterwards keeps it at the right and at the bottom; torchvision's recipe flips the
    padding too. Boxes of which nothing is left are dropped. Ghiasi et al. 2021 ("Simple
    copy-paste"), section 3.1; the figures are those of torchvision's recipe "lsj".

    The image becomes float32, bilinear without antialiasing, so that images which shrink much have
    aliases. torchvision resizes the file's image, with antialiasing; here an image that grows has
    the details of the network's input only.

    Attributes:
      scale: the least and the largest factor, more than 0.
      fill: value of the pixels outside the image, in 0..255, or one for each channel.
      least_visible: see `clip_and_drop`.
      least_side: see `clip_and_drop`.
    """

    scale: tuple[float, float] = (0.1, 2.0)
    fill: float | tuple[float, ...] = MEAN_COLOR
    least_visible: float = 0.0
    least_side: float = 1.0

    def __post_init__(self) -> None:
        scale = check_limits("scale", self.scale, more_than=0, less_than=math.inf)
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "fill", check_fill(self.fill))
        check_rule(self.least_visible, self.least_side)

    def draw(self, key: Array, size: tuple[int, int], extent: Array) -> Move:
        scale_key, place_key = jax.random.split(key)
        # From here on x comes first.
        canvas, before = jnp.array(size[::-1]), extent[::-1].astype(jnp.float32)
        scale = jax.random.uniform(scale_key, minval=self.scale[0], maxval=self.scale[1])
        # A small number is added, so that rounding errors do not remove a pixel.
        after = jnp.floor(before * (canvas / before).min() * scale + 1e-3)
        after = jnp.maximum(after, 1)
        spare = jnp.maximum(after - canvas, 0)
        corner = jnp.floor((spare + 1) * jax.random.uniform(place_key, (2,)))
        corner = jnp.minimum(corner, spare)
        window = jnp.concatenate([corner, corner + canvas]) * jnp.tile(before / after, 2)
        move = window_move(window, size=size, extent=extent, fill=self.fill)
        return move._replace(extent=jnp.minimum(after, canvas)[::-1].astype(jnp.int32))


def _centres_inside(boxes: Array, windows: Array) -> Array:
    """Tells which boxes [N, 4] have their centre inside which windows [..., 4]: bool[..., N]."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    centre = centre.reshape(*(1,) * (windows.ndim - 1), -1, 2)
    windows = windows[..., None, :]
    return ((centre > windows[..., :2]) & (centre < windows[..., 2:])).all(axis=-1)
