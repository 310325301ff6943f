"""Two-dimensional convolutions, with groups, and transposed convolutions.

On accelerators XLA's own convolution is used. On CPUs its grouped and depthwise convolutions are
tens of times slower than necessary, and their gradients hundreds of times. A convolution and its
two transposes are therefore primitives (`jaxvision.ops.primitives`), whose implementation is chosen
for the platform when the program is lowered. Values and derivatives are equal up to rounding.
`benchmarks/conv.py` measures each implementation.
"""

from collections.abc import Sequence
from typing import Any

from jax import Array, lax

from jaxvision.core import check_array
from jaxvision.ops.convolution_forms import (
    DIMENSIONS,
    Geometry,
    axes_of,
    library,
    library_dk,
    library_dx,
    on_cpu,
    on_cpu_dk,
    on_cpu_dx,
)
from jaxvision.ops.primitives import Form, multilinear
from jaxvision.ops.static import pair

Pair = int | Sequence[int]
"""One integer for both spatial axes, or one for each: (vertical, horizontal)."""
Padding = int | Sequence[int | Sequence[int]]
"""Number of zeros on every side, or (vertical, horizontal), or ((top, bottom), (left, right))."""


def conv2d(
    x: Array,
    kernel: Array,
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Array:
    """Computes a two-dimensional convolution (as in all networks, a cross-correlation).

    y[b, h, w, o] = sum over i, j, c of
    x[b, h stride + i dilation - top, w stride + j dilation - left, c] kernel[i, j, c, o],
    where x = 0 outside the image, and c runs over the channels of the group of o.

    Args:
      x: f32[B, H, W, C].
      kernel: f32[kh, kw, C / groups, D], of the dtype of x.
      stride: step of the window.
      padding: zeros around the image. "SAME" is not supported, because libraries define it
        differently.
      dilation: distance between the elements of the kernel.
      groups: number of groups of channels; output group n depends only on input group n. C for a
        depthwise convolution.
    Returns:
      [B, (H + top + bottom - dilation (kh - 1) - 1) // stride + 1, ..., D], of the dtype of x;
      half precision is summed in float32.
    Raises:
      AssertionError: x is smaller than the kernel.
      ValueError: stride, dilation or groups is not positive, padding is negative, or groups does
        not divide the channels.
    """
    geometry = _geometry(stride, padding, dilation, groups)
    x = check_array("x", x, ("B", "H", "W", "C"))
    _check_divisible("x", x, groups)
    kernel = check_array("kernel", kernel, ("kh", "kw", x.shape[-1] // groups, "D"))
    _check_kernel(x, kernel)
    _check_divisible("kernel", kernel, groups)
    if any(axis.count < 1 for axis in axes_of(x, kernel, geometry)):
        raise AssertionError(f"x is {x.dtype}{list(x.shape)}: it is smaller than the kernel")
    return _convolve(x, kernel, geometry)


def conv_transpose2d(
    x: Array,
    kernel: Array,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    output_padding: Pair = 0,
    groups: int = 1,
    dilation: Pair = 1,
) -> Array:
    """Computes a transposed convolution, as torch does: the gradient of `conv2d` by its input.

    Each pixel of x adds a multiple of the kernel to the output:
    y[b, h stride + i dilation - padding, w stride + j dilation - padding, o] +=
    x[b, h, w, c] kernel[i, j, c, o], where the index is inside y.

    Args:
      x: f32[B, H, W, C].
      kernel: f32[kh, kw, C, D / groups], of the dtype of x; torch's weight with its axes in the
        order (2, 3, 0, 1), not flipped.
      stride: distance in the output between neighbouring pixels of x.
      padding: rows and columns to remove on every side.
      output_padding: rows and columns to add at the bottom and on the right; less than the stride
        or the dilation.
      groups: number of groups of channels.
      dilation: distance between the elements of the kernel.
    Returns:
      [B, (H - 1) stride - 2 padding + dilation (kh - 1) + output_padding + 1, ..., D].
    Raises:
      ValueError: stride, dilation or groups is not positive, groups does not divide the channels,
        output_padding is too large, or padding leaves no output.
    Source: Zeiler et al. 2010 ("Deconvolutional networks"); sizes as torch.nn.ConvTranspose2d.
    """
    extra = pair("output_padding", output_padding, least=0)
    sides = pair("padding", padding, least=0)
    geometry = _geometry(stride, sides, dilation, groups)
    if any(
        n >= max(s, d) for n, s, d in zip(extra, geometry.stride, geometry.dilation, strict=True)
    ):
        raise ValueError(
            f"output_padding is {output_padding!r}: give less than the stride or the dilation"
        )
    x = check_array("x", x, ("B", "H", "W", "C"))
    _check_divisible("x", x, groups)
    kernel = check_array("kernel", kernel, ("kh", "kw", x.shape[-1], "D / groups"))
    _check_kernel(x, kernel)
    # The padding of the convolution of which this is the gradient: its last window ends with its
    # input.
    geometry = geometry._replace(
        padding=tuple((p, p - n) for p, n in zip(sides, extra, strict=True)), transposed=True
    )
    if min(_transposed_size(x, kernel, geometry)) < 1:
        raise ValueError(f"padding is {padding!r}: it leaves nothing of the output")
    return _convolve_transposed(x, kernel, geometry)


def conv_general_dilated(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    **options: Any,
) -> Array:
    """Computes `jax.lax.conv_general_dilated`, by `conv2d` where both are the same.

    Use it for layers that take a convolution, such as
    `flax.linen.Conv(..., conv_general_dilated_cls=lambda: conv_general_dilated)`. JAX's function is
    called for layouts other than NHWC with HWIO, for a dilated input, and if any further option is
    given.

    Args:
      lhs, rhs, ...: the arguments of `jax.lax.conv_general_dilated`.
    Returns:
      the result of `jax.lax.conv_general_dilated`.
    """
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    plain = (
        lhs.ndim == 4
        and lhs.dtype == rhs.dtype
        and numbers == lax.conv_dimension_numbers(lhs.shape, rhs.shape, DIMENSIONS)
        and set(lhs_dilation or (1,)) == {1}
        and all(value is None for value in options.values())
    )
    if not plain:
        return lax.conv_general_dilated(
            lhs,
            rhs,
            window_strides,
            padding,
            lhs_dilation,
            rhs_dilation,
            dimension_numbers,
            feature_group_count,
            **options,
        )
    dilation = tuple(rhs_dilation or (1, 1))
    if isinstance(padding, str):
        extent = [d * (k - 1) + 1 for d, k in zip(dilation, rhs.shape[:2], strict=True)]
        padding = lax.padtype_to_pads(lhs.shape[1:3], extent, window_strides, padding)
    geometry = Geometry(
        tuple(window_strides),
        tuple((low, high) for low, high in padding),
        dilation,
        feature_group_count,
    )
    return _convolve(lhs, rhs, geometry)


def _geometry(stride: Pair, padding: Padding, dilation: Pair, groups: int) -> Geometry:
    if not isinstance(groups, int) or groups < 1:
        raise ValueError(f"groups is {groups!r}: give a positive integer")
    sides = tuple(padding) if isinstance(padding, Sequence) else (padding, padding)
    if len(sides) != 2:
        raise ValueError(f"padding is {padding!r}: give one integer, a pair, or a pair of pairs")
    return Geometry(
        pair("stride", stride),
        tuple(pair("padding", side, least=0) for side in sides),
        pair("dilation", dilation),
        groups,
    )


def _check_divisible(name: str, x: Array, groups: int) -> None:
    if x.shape[-1] % groups:
        raise ValueError(
            f"groups is {groups}: it does not divide {x.shape[-1]}, the channels of {name}"
        )


def _check_kernel(x: Array, kernel: Array) -> None:
    if kernel.dtype != x.dtype or 0 in kernel.shape:
        raise AssertionError(
            f"kernel is {kernel.dtype}{list(kernel.shape)}: give {x.dtype}, and no empty axis"
        )


# The derivatives of the inner product of y with the convolution, by the kernel, by x and by y. The
# kernel is first so that its gradient is computed last, which takes the least memory.
_dk, _dx, _y = multilinear(
    Form("conv_dk", library_dk, on_cpu_dk),
    Form("conv_dx", library_dx, on_cpu_dx),
    Form("conv", library, on_cpu),
)


def _convolve(x: Array, kernel: Array, geometry: Geometry) -> Array:
    return _y(kernel, x, geometry=geometry, size=x.shape[1:3], taps=kernel.shape[:2])


def _convolve_transposed(x: Array, kernel: Array, geometry: Geometry) -> Array:
    size = tuple(_transposed_size(x, kernel, geometry))
    return _dx(kernel.swapaxes(2, 3), x, geometry=geometry, size=size, taps=kernel.shape[:2])


def _transposed_size(x: Array, kernel: Array, geometry: Geometry) -> list[int]:
    """Returns the (height, width) of the output."""
    return [
        stride * (n - 1) + dilation * (taps - 1) + 1 - low - high
        for n, taps, stride, (low, high), dilation in zip(
            x.shape[1:3],
            kernel.shape[:2],
            geometry.stride,
            geometry.padding,
            geometry.dilation,
            strict=True,
        )
    ]
