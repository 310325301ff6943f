"""Geometric augmentations for every batch struct: each draws a `Move`, which `apply_move` applies.

An augmentation is a function (key, example) -> example with its options as fields. An example is a
batch struct without its leading axis, with an image [H, W, C], uint8 or float, in 0..255. The
result has the same shapes. All augmentations run under `jax.vmap`.
"""

import functools
import math
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import jax
import jax.numpy as jnp
from jax import Array

from jaxvision.augment.image import rotate, rotation_places
from jaxvision.augment.move import (
    PLACED,
    Move,
    apply_move,
    extent_in,
    flip_move,
    flipped_index,
    image_size,
    refuse,
    same_cells,
    take,
    window_move,
)
from jaxvision.augment.options import (
    check_fill,
    check_limits,
    check_rule,
    check_swap,
    check_whole,
)
from jaxvision.augment.sampling import (
    inside_extent,
    random_resized_crop_window,
    scale_and_translate_window,
    warp,
)
from jaxvision.core import InputError, check_range

E = TypeVar("E")


class Geometric:
    """The base class of geometric augmentations: frozen dataclasses with a method `draw`.

    A subclass may have the fields `least_visible`, `least_side` and `swap` of `apply_move`. Without
    them, boxes are dropped only if they have no area inside the image, and points are not swapped.

    An augmentation takes the image without its padding for the whole image: the padding counts as
    outside of it. The result has the same extent, filled by `fill` where nothing is shown, and its
    padding is again at the right and at the bottom.
    """

    partners: ClassVar[int] = 0
    least_visible: float = 0.0
    least_side: float = 0.0
    swap: tuple[int, ...] = ()

    def draw(self, key: Array, size: tuple[int, int], extent: Array) -> Move:
        """Draws the move of an example.

        Args:
          key: key[].
          size: (height, width) of the image.
          extent: i32[2], (height, width) of the image without its padding.
        """
        raise NotImplementedError

    def __call__(self, key: Array, example: E) -> E:
        """Draws a move and applies it to all fields of an example.

        Args:
          key: key[].
          example: a batch struct without its leading axis.
        Returns:
          the example; see `apply_move`.
        Raises:
          InputError: the struct has a field that cannot be moved.
        """
        return apply_move(
            example,
            self.draw(key, image_size(example), extent_in(example)),
            least_visible=self.least_visible,
            least_side=self.least_side,
            swap=self.swap,
        )


@dataclass(frozen=True)
class RandomFlip(Geometric):
    """Flips the example horizontally with a probability; the image keeps its dtype.

    Attributes:
      probability: probability of the flip, in [0, 1].
      swap: for each landmark or keypoint the index of its mirrored counterpart, such as (1, 0, 2)
        for two eyes and a nose. (): no points are swapped. It has no effect without landmarks or
        keypoints.
    """

    probability: float = 0.5
    swap: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_range("probability", self.probability, least=0, most=1)
        object.__setattr__(self, "swap", check_swap(self.swap))

    def draw(self, key: Array, size: tuple[int, int], extent: Array) -> Move:
        return flip_move(size=extent, happens=jax.random.bernoulli(key, float(self.probability)))


@dataclass(frozen=True)
class ScaleTranslate(Geometric):
    """Scales the image about its centre and moves it; the image becomes float32, bilinear.

    With s uniform in `scale`, r log-uniform in `ratio` and t uniform in [-translate, translate] for
    each axis, x' = W / 2 + s sqrt(r) (x - W / 2) + t_x W and
    y' = H / 2 + s / sqrt(r) (y - H / 2) + t_y H. Redmon et al. 2016 ("You only look once"), section
    2.2, have a scale in (0.8, 1.2) and a translation of 0.2.

    Attributes:
      scale: the least and the largest factor, more than 0; more than 1 enlarges.
      ratio: the least and the largest factor of width / height, more than 0.
      translate: the largest move, as a fraction of the side, at least 0.
      least_visible: see `clip_and_drop`.
      least_side: see `clip_and_drop`.
      fill: value of the pixels outside the image, in 0..255.
    """

    scale: tuple[float, float] = (1.0, 1.0)
    ratio: tuple[float, float] = (1.0, 1.0)
    translate: float = 0.0
    least_visible: float = 0.25
    least_side: float = 1.0
    fill: float = 127

    def __post_init__(self) -> None:
        for name in ("scale", "ratio"):
            limits = check_limits(name, getattr(self, name), more_than=0, less_than=math.inf)
            object.__setattr__(self, name, limits)
        check_range("translate", self.translate, least=0, less_than=math.inf)
        check_rule(self.least_visible, self.least_side)
        check_fill(self.fill)

    def draw(self, key: Array, size: tuple[int, int], extent: Array) -> Move:
        window = scale_and_translate_window(
            key, extent, scale=self.scale, ratio=self.ratio, translate=self.translate
        )
        return window_move(window, size=extent, fill=self.fill)


@dataclass(frozen=True)
class JitterCrop(Geometric):
    """Moves each border of the image in or out and resizes the result to H x W, as Darknet does.

    The left and the right border move by up to `jitter` of the width, the upper and the lower
    border by up to `jitter` of the height: the four numbers are uniform in [-jitter, jitter]. The
    image becomes float32, bilinear. Darknet's `jitter` is 0.2 for YOLOv1, 0.2 or 0.3 for YOLOv2,
    and 0.3 for YOLOv3.

    Attributes:
      jitter: at least 0, less than 1/2.
      least_visible: see `clip_and_drop`.
      least_side: see `clip_and_drop`.
      fill: value of the pixels outside the image, in 0..255.
    """

    jitter: float = 0.3
    least_visible: float = 0.25
    least_side: float = 1.0
    fill: float = 127

    def __post_init__(self) -> None:
        check_range("jitter", self.jitter, least=0, less_than=0.5)
        check_rule(self.least_visible, self.least_side)
        check_fill(self.fill)

    def draw(self, key: Array, size: tuple[int, int], extent: Array) -> Move:
        side = jnp.tile(extent[::-1], 2).astype(jnp.float32)
        share = jax.random.uniform(key, (4,), minval=-self.jitter, maxval=self.jitter)
        window = side * (jnp.array([0.0, 0.0, 1.0, 1.0]) + share)
        return window_move(window, size=extent, fill=self.fill)


@dataclass(frozen=True)
class RandomCrop(Geometric):
    """Pads every side, then crops to the original size at a random offset; the dtype is kept.

    Offsets are uniform over all (2 * padding + 1)^2 positions, as in the CIFAR experiments of He et
    al. 2016 (section 4.2; padding 4).

    Attributes:
      padding: number of pixels to pad on each side, at least 0.
      fill: value of the padding, in 0..255.
      least_visible: see `clip_and_drop`.
      least_side: see `clip_and_drop`.
    """

    padding: int
    fill: float = 0
    least_visible: float = 0.25
    least_side: float = 1.0

    def __post_init__(self) -> None:
        check_whole("padding", self.padding, least=0)
        check_rule(self.least_visible, self.least_side)
        check_range("fill", self.fill, least=0, most=255)

    def draw(self, key: Array, size: tuple[int, int], extent: Array) -> Move:
        y, x = jax.random.randint(key, (2,), 0, 2 * self.padding + 1)

        def crop(image: Array, fill: float) -> Array:
            sides = [(self.padding, self.padding)] * 2 + [(0, 0)] * (image.ndim - 2)
            inside = inside_extent(image, extent, fill=fill)
            padded = jnp.pad(inside, sides, constant_values=fill)
            cropped = jax.lax.dynamic_slice(padded, (y, x, 0)[: image.ndim], image.shape)
            return inside_extent(cropped, extent, fill=fill)

        def points(points: Array) -> Array:
            move = self.padding - jnp.stack([x, y])
            return points + move[None].astype(points.dtype)

        return Move(
            image=lambda image: crop(image, self.fill),
            nearest=crop,
            points=points,
            mirrored=jnp.bool_(False),
            extent=extent,
            cells=same_cells,
        )


@dataclass(frozen=True)
class RandomResizedCrop(Geometric):
    """Crops a window of a random size, aspect ratio and position, and resizes it.

    The result has the size of the image; it is float32, bilinear. See Szegedy et al. 2015 ("Going
    deeper with convolutions"), section 6, and `random_resized_crop_window`.

    Attributes:
      scale: the least and the largest fraction of the image's area, more than 0, at most 1.
      ratio: the least and the largest width / height, more than 0.
      least_visible: see `clip_and_drop`.
      least_side: see `clip_and_drop`.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    least_visible: float = 0.25
    least_side: float = 1.0

    def __post_init__(self) -> None:
        scale = check_limits("scale", self.scale, more_than=0, most=1)
        ratio = check_limits("ratio", self.ratio, more_than=0, less_than=math.inf)
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "ratio", ratio)
        check_rule(self.least_visible, self.least_side)

    def draw(self, key: Array, size: tuple[int, int], extent: Array) -> Move:
        window = random_resized_crop_window(key, extent, scale=self.scale, ratio=self.ratio)
        # The window is inside the image, so that nothing shrinks and nothing is filled.
        return window_move(window, size=extent)


@dataclass(frozen=True)
class Rotate(Geometric):
    """Rotates about the centre by an angle uniform in [-degrees, degrees].

    The image becomes float32, bilinear; see `rotate`. A box becomes the upright box around its four
    rotated corners, which is larger than the object.

    Attributes:
      degrees: the largest angle, at least 0.
      fill: value of the pixels outside the image, in 0..255.
      least_visible: see `clip_and_drop`.
      least_side: see `clip_and_drop`.
    """

    degrees: float
    fill: float = 0
    least_visible: float = 0.25
    least_side: float = 1.0

    def __post_init__(self) -> None:
        check_range("degrees", self.degrees, least=0, less_than=math.inf)
        check_rule(self.least_visible, self.least_side)
        check_range("fill", self.fill, least=0, most=255)

    def draw(self, key: Array, size: tuple[int, int], extent: Array) -> Move:
        angle = jax.random.uniform(key, (), minval=-self.degrees, maxval=self.degrees)
        places = rotation_places(angle, size=size, extent=extent)

        def image(image: Array) -> Array:
            rotated = rotate(image, angle, fill=self.fill, extent=extent)
            return inside_extent(rotated, extent, fill=self.fill)

        def points(points: Array) -> Array:
            cos, sin = jnp.cos(jnp.deg2rad(angle)), jnp.sin(jnp.deg2rad(angle))
            middle_y, middle_x = extent / 2
            x, y = points[:, 0] - middle_x, points[:, 1] - middle_y
            moved = [cos * x + sin * y + middle_x, cos * y - sin * x + middle_y]
            return jnp.stack(moved, axis=1)

        nearest = functools.partial(_nearest_at, places, extent)
        return Move(image, nearest, points, jnp.bool_(False), extent)


@dataclass(frozen=True)
class Elastic(Geometric):
    """Deforms the image smoothly by random displacements on a coarse grid.

    The grid has `cells` cells along each side, from border to border. Each of its
    (cells + 1) x (cells + 1) points has a displacement that is normal with standard deviation
    `sigma` along each axis; the displacements of pixels in between are interpolated bicubically. A
    pixel of the result shows the image at the pixel's position plus its displacement. The image
    becomes float32, bilinear. Ronneberger et al. 2015 ("U-Net"), section 3.1, use 3 x 3 points and
    10 pixels.

    Examples with boxes, masks or points are refused: their new positions are given by the inverse
    of the deformation, which need not exist.

    Attributes:
      sigma: standard deviation of the displacements, pixels, at least 0.
      cells: number of cells of the grid along each side, at least 1.
      fill: value of the pixels outside the image, in 0..255.
    """

    sigma: float = 10.0
    cells: int = 2
    fill: float = 127

    def __post_init__(self) -> None:
        check_range("sigma", self.sigma, least=0, less_than=math.inf)
        check_whole("cells", self.cells, least=1)
        check_fill(self.fill)

    def __call__(self, key: Array, example: E) -> E:
        """Deforms an example.

        Args:
          key: key[].
          example: a batch struct without its leading axis.
        Returns:
          the example; see `apply_move`.
        Raises:
          InputError: the struct has boxes, masks or points.
        """
        refuse(example, PLACED, "Elastic")
        return super().__call__(key, example)

    def draw(self, key: Array, size: tuple[int, int], extent: Array) -> Move:
        height, width = size
        count = self.cells + 1
        coarse = self.sigma * jax.random.normal(key, (count, count, 2))
        moves = _between_points(coarse, extent, height, width)
        y, x = jnp.meshgrid(jnp.arange(height) + 0.5, jnp.arange(width) + 0.5, indexing="ij")
        places = jnp.stack([x, y], axis=-1) + moves

        def image(image: Array) -> Array:
            bent = warp(image, places, fill=self.fill, extent=extent)
            return inside_extent(bent, extent, fill=self.fill)

        nearest = functools.partial(_nearest_at, places, extent)
        return Move(image, nearest, None, jnp.bool_(False), extent)


@dataclass(frozen=True)
class Symmetry(Geometric):
    """Applies one of the eight symmetries of a square, all equally likely; the dtype is kept.

    The images must be square. If the part of an image without padding is not, its height and width
    are exchanged in half of the cases.

    Attributes:
      swap: as for `RandomFlip`.
    """

    swap: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "swap", check_swap(self.swap))

    def draw(self, key: Array, size: tuple[int, int], extent: Array) -> Move:
        height, width = size
        if height != width:
            raise InputError(
                f"the images are {height} x {width} pixels: Symmetry needs square ones"
            )
        turned, upside_down, mirror = jax.random.bernoulli(key, shape=(3,))
        extent = jnp.where(turned, extent[::-1], extent)
        horizontal = flip_move(size=extent, happens=mirror)

        def image(image: Array) -> Array:
            image = jnp.where(turned, image.swapaxes(0, 1), image)
            image = take(image, flipped_index(height, extent[0], upside_down), axis=0)
            return horizontal.image(image)

        def points(points: Array) -> Array:
            points = jnp.where(turned, points[:, ::-1], points)
            x, y = points[:, 0], points[:, 1]
            y = jnp.where(upside_down, extent[0] - y, y)
            return horizontal.points(jnp.stack([x, y], axis=1))

        def cells(masks: Array) -> Array:
            masks = jnp.where(turned, masks.swapaxes(1, 2), masks)
            return horizontal.cells(jnp.where(upside_down, masks[:, ::-1], masks))

        mirrored = turned ^ upside_down ^ mirror
        return Move(image, lambda labels, fill: image(labels), points, mirrored, extent, cells)


def _nearest_at(places: Array, extent: Array, labels: Array, fill: int) -> Array:
    """Returns the labels [H, W] at places, and `fill` in the padding; see `Move.nearest`."""
    how = {"method": "nearest", "fill": fill, "extent": extent}
    return inside_extent(warp(labels[:, :, None], places, **how)[:, :, 0], extent, fill=fill)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _between_points(coarse: Array, extent: Array, height: int, width: int) -> Array:
    """Interpolates values on a grid of points cubically: f32[G, G, 2] -> [H, W, 2].

    The grid covers the image without its padding; what is beyond it has no meaning.
    """

    def weights(count: int, side: Array, points: int) -> Array:
        # Keys' kernel with a = -1/2; the values of the outermost points are repeated beyond them.
        place = (jnp.arange(count) + 0.5) / side * (points - 1)
        distance = jnp.abs(place[:, None] - jnp.arange(-1, points + 1)[None])
        # As products of its factors, whose rounding errors are small where the kernel is.
        near = (1 - distance) * (1 + distance - 1.5 * distance**2)
        far = 0.5 * (1 - distance) * (2 - distance) ** 2
        kernel = jnp.where(distance <= 1, near, jnp.where(distance < 2, far, 0))
        inner = kernel[:, 1:-1]
        return inner.at[:, 0].add(kernel[:, 0]).at[:, -1].add(kernel[:, -1])

    points = coarse.shape[0]
    product = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
    rows = product("yi,ijc->yjc", weights(height, extent[0], points), coarse)
    return product("xj,yjc->yxc", weights(width, extent[1], points), rows)
