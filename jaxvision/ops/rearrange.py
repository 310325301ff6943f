"""Functions that move cells between space and channels, or permute channels."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array

from jaxvision.core import check_array, check_choice
from jaxvision.ops.static import integer

ORDERS = ("space_first", "channel_first", "darknet")
"""Orders of the s x s cells of a block in the channels, with (dy, dx) the position in the block.

"space_first": channel (dy s + dx) C + c, as TensorFlow's space_to_depth; "channel_first": channel
c s^2 + dy s + dx, as torch's pixel_unshuffle and pixel_shuffle; "darknet": see `space_to_depth`.
"""


def space_to_depth(x: Array, block_size: int, *, order: str = "space_first") -> Array:
    """Moves each block of s x s cells to one cell with s^2 times as many channels.

    The order "darknet" is that of Darknet's reorg layer, YOLOv2's passthrough, which does not take
    blocks of its input. It reads the input, [C, H, W] in memory, as [C / s^2, H s, W s], moves the
    blocks of this array to the channels ("space_first"), which gives [C, H, W] again, and returns
    the result as [C s^2, H / s, W / s]. Weights trained with that layer need this order. Forks of
    Darknet call the plain "space_first" reorg3d.

    Args:
      x: number[..., H, W, C].
      block_size: s.
      order: one of `ORDERS`.
    Returns:
      number[..., H / s, W / s, C s^2].
    Raises:
      AssertionError: s does not divide the height and width of x, or, for "darknet", s^2 does not
        divide C.
      ValueError: block_size is not a positive integer, or order is unknown.
    Source: Redmon and Farhadi 2017 ("YOLO9000"), section 2 ("fine-grained features").
    """
    _check_options(block_size, order)
    x = check_array("x", x, ("...", "H", "W", "C"), "number")
    *leading, height, width, channels = x.shape
    s = block_size
    _check_divisible(x, height=s, width=s, channels=s * s if order == "darknet" else 1)
    size = (height // s, width // s, channels * s * s)
    if order == "darknet":
        x = _permuted(x, 3, (2, 0, 1)).reshape(*leading, channels // s**2, height, s, width, s)
        # The axes of the result in memory: dy, dx, c, row, column.
        x = _permuted(x, 5, (2, 4, 0, 1, 3)).reshape(*leading, size[2], *size[:2])
        return _permuted(x, 3, (1, 2, 0))
    x = x.reshape(*leading, size[0], s, size[1], s, channels)
    x = _permuted(x, 5, (0, 2, 1, 3, 4) if order == "space_first" else (0, 2, 4, 1, 3))
    return x.reshape(*leading, *size)


def depth_to_space(x: Array, block_size: int, *, order: str = "space_first") -> Array:
    """Inverts `space_to_depth`; with order "channel_first" it is torch's pixel_shuffle.

    Args:
      x: number[..., H, W, C].
      block_size: s.
      order: one of `ORDERS`.
    Returns:
      number[..., H s, W s, C / s^2].
    Raises:
      AssertionError: s^2 (or s^4 for "darknet") does not divide the channels of x.
      ValueError: block_size is not a positive integer, or order is unknown.
    Source: Shi et al. 2016 ("Real-time single image and video super-resolution using an efficient
      sub-pixel convolutional neural network"), equation 4.
    """
    _check_options(block_size, order)
    x = check_array("x", x, ("...", "H", "W", "C"), "number")
    *leading, height, width, channels = x.shape
    s = block_size
    _check_divisible(x, channels=s**4 if order == "darknet" else s * s)
    size = (height * s, width * s, channels // s**2)
    if order == "darknet":
        x = _permuted(x, 3, (2, 0, 1)).reshape(*leading, s, s, size[2] // s**2, *size[:2])
        x = _permuted(x, 5, (2, 3, 0, 4, 1)).reshape(*leading, size[2], *size[:2])
        return _permuted(x, 3, (1, 2, 0))
    if order == "space_first":
        x = x.reshape(*leading, height, width, s, s, size[2])
        x = _permuted(x, 5, (0, 2, 1, 3, 4))
    else:
        x = x.reshape(*leading, height, width, size[2], s, s)
        x = _permuted(x, 5, (0, 3, 1, 4, 2))
    return x.reshape(*leading, *size)


def channel_shuffle(x: Array, groups: int) -> Array:
    """Spreads the channels of each group over all groups: channel g n + i moves to i G + g.

    n is the number of channels in each of the G groups.

    Args:
      x: number[..., C].
      groups: G, the number of groups of the grouped convolution before it.
    Returns:
      number[..., C].
    Raises:
      AssertionError: groups does not divide C.
      ValueError: groups is not a positive integer.
    Source: Zhang et al. 2018 ("ShuffleNet"), section 3.1.
    """
    integer("groups", groups)
    x = check_array("x", x, ("...", "C"), "number")
    _check_divisible(x, channels=groups)
    split = x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)
    return jnp.swapaxes(split, -1, -2).reshape(x.shape)


def _permuted(x: Array, count: int, axes: Sequence[int]) -> Array:
    """Returns x with its last `count` axes in another order."""
    first = x.ndim - count
    return jnp.transpose(x, (*range(first), *(first + axis for axis in axes)))


def _check_options(block_size: int, order: str) -> None:
    integer("block_size", block_size)
    check_choice("order", order, ORDERS)


def _check_divisible(x: Array, **divisors: int) -> None:
    sizes = dict(zip(("channels", "width", "height"), x.shape[::-1], strict=False))
    for name, divisor in divisors.items():
        if sizes[name] % divisor:
            raise AssertionError(
                f"x is {x.dtype}{list(x.shape)}: its {name}, {sizes[name]}, must be a multiple of "
                f"{divisor}"
            )
