"""Runs a function on images of any size, by overlapping tiles of one size."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from jaxvision.core import InputError, OptionError, check_range, lookup
from jaxvision.data.sources.tiles import BORDERS, cut_tile, kept_places, tile_origins
from jaxvision.predict.arrays import check_pixels
from jaxvision.predict.batches import computed


def predict_in_tiles(
    predict: Callable[[Array], Array],
    image: np.ndarray,
    *,
    tile: int | tuple[int, int],
    margin: int,
    factor: int = 1,
    step: int = 1,
    batch_size: int = 1,
    border: str = "reflect",
    average: bool = False,
) -> np.ndarray:
    """Runs a function on an image of any size; the function sees only tiles of one size.

    The image is continued beyond its border by its mirror image, and is cut into tiles that
    overlap. Of the result of a tile, what is nearer than `margin` to the tile's border is not used,
    so that every pixel of the result was computed with its surroundings. All batches have one
    shape, so a jitted function is compiled once for images of all sizes. Two batches at most are on
    the device. With `average`, the results of all tiles that cover a pixel are averaged instead.

    If each pixel of a convolutional network's result depends only on pixels within `margin`, then
    the result equals that for the whole image:
      - everywhere, if the network pads nothing and therefore takes `lost` rows off each side (the
        paper's U-Net takes 92: 572 -> 388), where the whole is the image mirrored by `lost`;
      - at places whose distance to the image's border is at least `margin`, if the network pads;
        and everywhere with the border "zeros".
    Maps of lower resolution in the network must have the same grid in tiles and in the whole image:
    give `step`. A network that looks at the whole of its input, such as one with a global pooling,
    has no such margin.

    Args:
      predict: images [B, *tile, C] -> [B, h, w, ...], a function for JAX, jitted. h and w are
        factor times the tile's height and width, or less by the same number on all sides.
      image: number[H, W, C], of any height and width, on the host.
      tile: (height, width) of the tiles, or the side of square ones, pixels; the network must take
        images of this size.
      margin: width of the border of a tile whose result is not used, pixels; at least what
        `predict` takes off.
      factor: by which `predict` enlarges.
      step: the network's stride, that is, the stride of its coarsest map: 16 for a U-Net of five
        levels. The distance between tiles is the largest multiple of it that is possible.
      batch_size: tiles in a batch; the last batch is filled up.
      border: what tiles have beyond the image: "reflect", its mirror image; "symmetric", that with
        the pixels of the border repeated; or "zeros": the outermost tiles end at the image's border
        and are used up to there, so that a network that pads its maps with zeros does so where it
        does on the whole image. An image that is smaller than a tile is then a tile by itself,
        which is compiled for its size.
      average: whether the results of the tiles are averaged where they overlap, by 2 `margin`
        pixels; those within the margins too. `predict` gives probabilities or other floats.
    Returns:
      [factor H, factor W, ...], in the dtype of the result of `predict`, on the host.
    Raises:
      AssertionError: the image or the result of `predict` has another shape or dtype.
      InputError: the margin is smaller than what `predict` takes off, or too large for the tile, or
        an option is out of range or does not fit the others.
    Source: Ronneberger, Fischer & Brox, "U-Net: convolutional networks for biomedical image
      segmentation", 2015, section 2 and figure 2.
    """
    tiles = Tiles(
        predict,
        image,
        tile=tile,
        margin=margin,
        factor=factor,
        step=step,
        batch_size=batch_size,
        border=border,
        average=average,
    )
    return computed(tiles, batch_size).result()


class Tiles:
    """The tiles of an image, and the result that is put together from theirs.

    The arguments are those of `predict_in_tiles`, as are the errors. It is what `run_in_batches`
    calls parts, so that the tiles of several images can share batches.
    """

    def __init__(
        self,
        predict: Callable[[Array], Array],
        image: np.ndarray,
        *,
        tile: int | tuple[int, int],
        margin: int,
        factor: int = 1,
        step: int = 1,
        batch_size: int = 1,
        border: str = "reflect",
        average: bool = False,
    ):
        image = check_pixels("image", image, ("H", "W", "C"), np.number)
        check_range("margin", margin, least=0)
        sides = (tile, tile) if isinstance(tile, int) else tuple(tile)
        for side in sides:
            check_range("tile", side, least=1)
        for name, value in {"factor": factor, "step": step, "batch_size": batch_size}.items():
            check_range(name, value, least=1)
        lookup(BORDERS, border, "border")
        if border == "zeros":
            sides = tuple(map(min, sides, image.shape))
        like = np.broadcast_to(image[:1, :1], (batch_size, *sides, image.shape[2]))
        output = jax.eval_shape(predict, like)
        cut = _check_output(output, like.shape, factor)
        if average and not np.issubdtype(output.dtype, np.floating):
            raise InputError(f"predict gives {output.dtype}: give floats, which can be averaged")

        lost = -(-cut // factor)
        check_range("margin", margin, least=lost)
        if border == "zeros" and (lost or step > 1):
            raise OptionError(
                "border",
                "border is 'zeros', which is for networks that keep the size of all maps: give "
                "'reflect' or 'symmetric'",
            )
        axes = []
        for side, of_tile in zip(image.shape, sides, strict=False):
            if border == "zeros":
                spans = _ending_inside(side, of_tile, margin)
            else:
                spans = _mirrored(side, of_tile, margin, lost=lost, step=step)
            axes.append([_whole(span, of_tile, side, lost) for span in spans] if average else spans)
        self._places = [(rows, columns) for rows in axes[0] for columns in axes[1]]
        shape = [factor * side for side in image.shape[:2]]
        self._result = np.zeros((*shape, *output.shape[3:]), output.dtype)
        # How many tiles cover each pixel.
        self._counts = None
        if average:
            self._counts = np.zeros((*shape, *(1 for _ in output.shape[3:])), np.int32)
        self._image, self._sides, self._border = image, sides, border
        self._factor, self._cut = factor, cut
        self._predict, self._batch_size = predict, batch_size
        self.shape = like.shape[1:]

    @property
    def run(self) -> Callable[[Sequence[np.ndarray]], Array]:
        """`predict`, of 1 to `batch_size` tiles; see `run_in_batches`."""
        return _Filled(self._predict, self._batch_size)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, number: int) -> np.ndarray:
        """A tile [h, w, C], cut out of the image, which is continued by its mirror image."""
        rows, columns = self._places[number]
        origin, (height, width) = (rows.start, columns.start), self._sides
        cut = cut_tile(self._image, origin, max(self._sides), border=self._border)
        return cut[:height, :width]

    def put(self, number: int, output: np.ndarray) -> None:
        """Takes what `predict` gives for a tile, on the host; for the tiles in their order."""
        factor, spans = self._factor, self._places[number]
        into = tuple(slice(factor * span.first, factor * span.after) for span in spans)
        used = tuple(
            slice(
                factor * (span.first - span.start) - self._cut,
                factor * (span.after - span.start) - self._cut,
            )
            for span in spans
        )
        self._result[into] += output[used]
        if self._counts is not None:
            self._counts[into] += 1

    def result(self) -> np.ndarray:
        """The result for the image, as of `predict_in_tiles`, when that of all tiles is here."""
        if self._counts is None:
            return self._result
        return self._result / self._counts.astype(self._result.dtype)


class _Filled(NamedTuple):
    """Runs a function on batches of one size; those of one function and size are equal.

    Attributes:
      function: images [B, h, w, C] -> their results.
      batch_size: B; the last of fewer images fills the batch up.
    """

    function: Callable[[Array], Array]
    batch_size: int

    def __call__(self, images: Sequence[np.ndarray]) -> Array:
        missing = self.batch_size - len(images)
        return self.function(np.stack([*images, *[images[-1]] * missing]))


class _Span(NamedTuple):
    """A tile along an axis of the image.

    Attributes:
      start: where it begins, which may be before the image.
      first: the first place that is used of it.
      after: the place after the last one.
    """

    start: int
    first: int
    after: int


def _mirrored(side: int, tile: int, margin: int, *, lost: int, step: int) -> list[_Span]:
    """Tiles along an axis that go beyond the image's border.

    Args:
      side: of the image.
      tile: its side.
      margin: of the tiles.
      lost: pixels that the function takes off each side.
      step: of the grid that they are on.
    Raises:
      InputError: the margin leaves nothing of a tile.
    """
    # Tiles start `before` a multiple of `step`, where the whole image mirrored by `lost` starts.
    before = lost + -(-(margin - lost) // step) * step
    stride = (tile - before - margin) // step * step
    if stride < 1:
        raise InputError(
            f"tile is {tile}: with margin {margin} and step {step} nothing of it is used: "
            f"give at least {before + step + margin}"
        )
    return [
        _Span(first - before, first, min(first + stride, side)) for first in range(0, side, stride)
    ]


def _ending_inside(side: int, tile: int, margin: int) -> list[_Span]:
    """Tiles along an axis that end at the image's border."""
    if tile == side:
        return [_Span(0, 0, side)]
    origins, _ = zip(
        *tile_origins((side, tile), tile=tile, margin=margin, border="zeros"), strict=True
    )
    places = {"tile": tile, "margin": margin, "border": "zeros"}
    return [_Span(start, *kept_places(start, side, **places)) for start in origins]


def _whole(span: _Span, tile: int, side: int, lost: int) -> _Span:
    """The same tile, with all of its result that lies in the image."""
    return _Span(span.start, max(span.start + lost, 0), min(span.start + tile - lost, side))


def _check_output(output: Any, shape: tuple[int, ...], factor: int) -> int:
    """Computes how many pixels the result lacks on each side.

    Args:
      output: the shape and dtype of what `predict` gives.
      shape: of the batch of tiles.
      factor: as for `predict_in_tiles`.
    Raises:
      AssertionError: the result is not one array with such a shape.
    """
    if not isinstance(output, jax.ShapeDtypeStruct):
        raise AssertionError(f"predict gives a {type(output).__name__}: give one array")
    given = f"predict gives {output.dtype}{list(output.shape)} for {list(shape)}"
    if output.ndim < 3 or output.shape[0] != shape[0]:
        raise AssertionError(f"{given}: give [{shape[0]}, h, w, ...]")
    rows, columns = (factor * side for side in shape[1:3])
    lacking = rows - output.shape[1]
    if lacking < 0 or lacking % 2 or columns - output.shape[2] != lacking:
        raise AssertionError(
            f"{given}: with factor {factor}, give {rows} rows and {columns} columns, or fewer by "
            "the same number on all sides"
        )
    return lacking // 2
