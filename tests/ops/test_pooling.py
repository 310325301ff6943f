"""Pooling: against plain loops, the library's gradients where maxima tie, and torch."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jax.test_util import check_grads

from jaxvision.ops import pooling
from jaxvision.testing import TRANSFORMS, check_finite_gradients, check_op
from tests.marks import slow_but
from tests.reference.ops import pooling as reference

# kernel_size, options; each is hard in another way for maps of 7 x 6.
WINDOWS = [
    (2, {}),
    (3, {"stride": 2, "padding": 1}),  # overlapping
    (3, {"stride": 1, "padding": 1}),
    ((3, 2), {"stride": (1, 3), "padding": (1, 0)}),
    (2, {"stride": 3}),  # cells between the windows
    (2, {"stride": 2, "ceil_mode": True}),
    (3, {"stride": 2, "padding": 1, "ceil_mode": True}),
    (2, {"stride": 4, "padding": 1, "ceil_mode": True}),  # the last window falls away
    (5, {"stride": 1, "padding": 2}),  # large: one axis after the other
    ((6, 5), {"stride": 2, "padding": (3, 2), "ceil_mode": True}),
    ((7, 1), {}),
    ((1, 6), {"stride": 3}),
]


def maps(shape=(2, 7, 6, 3), *, seed=0, ties=False):
    rng = np.random.default_rng(seed)
    values = rng.integers(-2, 3, shape) if ties else rng.normal(size=shape)
    return values.astype(np.float32)


@pytest.mark.parametrize("number", slow_but(range(len(WINDOWS)), range(0, len(WINDOWS), 2)))
def test_max_pool_equals_the_reference(number):
    kernel_size, options = WINDOWS[number]

    def op(x):
        return pooling.max_pool(x, kernel_size, **options)

    def with_indices(x):
        return pooling.max_pool_with_indices(x, kernel_size, **options)

    x = maps(ties=True)
    transforms = TRANSFORMS if kernel_size == 3 else ("jit", "vmap")
    check_op(
        op,
        lambda x: reference.max_pool(x, kernel_size, **options),
        x,
        rtol=0,
        atol=0,
        transforms=transforms,
    )
    check_op(
        with_indices,
        lambda x: reference.max_pool_with_indices(x, kernel_size, **options),
        x,
        rtol=0,
        atol=0,
        transforms=transforms,
    )
    assert with_indices(x)[1].dtype == jnp.int32

    gradient = maps(op(x).shape, seed=1)
    check_op(
        lambda x, g: jax.vjp(op, x)[1](g)[0],
        lambda x, g: reference.max_pool_gradient(x, g, kernel_size, **options),
        x,
        gradient,
        transforms=transforms,
    )
    np.testing.assert_array_equal(
        jax.vjp(lambda x: with_indices(x)[0], x)[1](gradient)[0],
        jax.vjp(op, x)[1](gradient)[0],
    )


@pytest.mark.parametrize(
    ("size", "stride", "padding"),
    [
        ((3, 3), (2, 2), (1, 1)),
        ((2, 2), (2, 2), (0, 0)),
        ((5, 5), (1, 1), (2, 2)),
        ((2, 3), (3, 1), (0, 1)),
    ],
)
@pytest.mark.parametrize("dtype", slow_but([jnp.float32, jnp.bfloat16], [jnp.float32]))
def test_max_pool_equals_flax_in_value_and_gradient(size, stride, padding, dtype):
    x = jnp.asarray(maps((2, 9, 8, 4), ties=True), dtype)
    x = x.at[0, :4, :4].set(-jnp.inf)  # windows of nothing but the padding's value

    def library(x):
        return nn.max_pool(x, size, stride, tuple((p, p) for p in padding))

    def ours(x):
        return pooling.max_pool(x, size, stride=stride, padding=padding)

    expected, of_library = jax.vjp(library, x)
    actual, of_ours = jax.vjp(ours, x)
    np.testing.assert_array_equal(actual, expected)
    # Small integers: their sums are exact in any order.
    gradient = jnp.asarray(maps(expected.shape, seed=1, ties=True), dtype)
    np.testing.assert_array_equal(of_ours(gradient)[0], of_library(gradient)[0])


_POOL = jax.jit(lambda x: pooling.max_pool_with_indices(x, 3, stride=2, padding=1))
_POOL_GRADIENT = jax.jit(jax.grad(lambda x: _POOL(x)[0].sum()))
_LIBRARY_GRADIENT = jax.jit(
    jax.grad(lambda x: nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1))).sum())
)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(
    arrays(
        np.float32,
        (1, 5, 4, 1),
        elements=st.one_of(
            # XLA takes subnormal numbers as 0.
            st.floats(-1e6, 1e6, width=32, allow_subnormal=False),
            st.integers(-1, 1).map(float),
        ),
    )
)
def test_max_pool_of_any_map_equals_the_reference_and_the_library(x):
    expected = reference.max_pool_with_indices(x, 3, stride=2, padding=1)
    for actual, wanted in zip(_POOL(x), expected, strict=True):
        np.testing.assert_array_equal(actual, wanted)
    np.testing.assert_array_equal(_POOL_GRADIENT(x), _LIBRARY_GRADIENT(x))


def test_max_pool_by_hand():
    x = np.float32([[1, 5, 5], [5, 2, 0], [3, 3, 4]]).reshape(1, 3, 3, 1)
    values, indices = pooling.max_pool_with_indices(x, 2, stride=1)
    np.testing.assert_array_equal(values[0, :, :, 0], [[5, 5], [5, 4]])
    np.testing.assert_array_equal(indices[0, :, :, 0], [[1, 1], [3, 8]])
    gradient = jax.grad(lambda x: pooling.max_pool(x, 2, stride=1).sum())(x)
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[0, 2, 0], [1, 0, 0], [0, 0, 1]])


def test_max_pool_takes_integers_and_hands_nan_on():
    x = (maps(ties=True) * 50).astype(np.int8)
    for least in (x, np.full_like(x, -128)):
        actual = pooling.max_pool_with_indices(least, 3, stride=2, padding=1)
        expected = reference.max_pool_with_indices(least, 3, stride=2, padding=1)
        assert actual[0].dtype == jnp.int8
        for a, e in zip(actual, expected, strict=True):
            np.testing.assert_array_equal(a, e)
    x = maps()
    x[0, 3, 3, 0] = np.nan
    for size in (3, 5):
        actual = pooling.max_pool(x, size, stride=1, padding=size // 2)
        expected = nn.max_pool(x, (size, size), (1, 1), ((size // 2,) * 2,) * 2)
        np.testing.assert_array_equal(actual, expected)
        assert jnp.isnan(actual).sum() == size**2


@pytest.mark.slow
def test_max_pool_of_a_window_of_more_cells_than_a_byte_counts():
    x = maps((1, 1, 258, 1), ties=True)
    x[0, 0, 256] = 9
    gradient = jax.grad(lambda x: pooling.max_pool(x, (1, 257)).sum())(x)
    np.testing.assert_array_equal(
        gradient, reference.max_pool_gradient(x, np.ones((1, 1, 1, 1)), (1, 257))
    )


def test_pooling_of_no_images_and_no_channels():
    for shape in ((0, 4, 4, 2), (2, 4, 4, 0)):
        x = np.zeros(shape, np.float32)
        expected = (shape[0], 2, 2, shape[3])
        for op in (pooling.max_pool, pooling.avg_pool, pooling.adaptive_avg_pool):
            assert jax.grad(lambda x, op=op: op(x, 2).sum())(x).shape == shape
            assert op(x, 2).shape == expected
        assert pooling.global_avg_pool(x).shape == (shape[0], shape[3])
        values, indices = pooling.max_pool_with_indices(x, 2)
        assert pooling.max_unpool(values, indices, output_size=(4, 4)).shape == shape


@pytest.mark.parametrize(("kernel_size", "options"), WINDOWS)
@pytest.mark.parametrize("count_include_pad", [True, False])
def test_avg_pool_equals_the_reference(kernel_size, options, count_include_pad):
    options = options | {"count_include_pad": count_include_pad}
    check_op(
        lambda x: pooling.avg_pool(x, kernel_size, **options),
        lambda x: reference.avg_pool(x, kernel_size, **options),
        maps() * 1e6,
        atol=0.2,
        transforms=TRANSFORMS if kernel_size == 3 else ("jit",),
    )


def test_avg_pool_by_hand():
    x = np.float32([[1, 2, 3], [4, 5, 6], [7, 8, 9]]).reshape(1, 3, 3, 1)
    options = {"stride": 2, "padding": 1}
    including = pooling.avg_pool(x, 2, **options)
    np.testing.assert_array_equal(including[0, :, :, 0], [[1 / 4, 5 / 4], [11 / 4, 28 / 4]])
    excluding = pooling.avg_pool(x, 2, **options, count_include_pad=False)
    np.testing.assert_array_equal(excluding[0, :, :, 0], [[1, 5 / 2], [11 / 2, 7]])
    # The last window has one cell; what lies beyond counts in no mode.
    ceiled = pooling.avg_pool(x, 2, ceil_mode=True)
    np.testing.assert_array_equal(ceiled[0, :, :, 0], [[3, 4.5], [7.5, 9]])


@pytest.mark.parametrize("output_size", [1, 7, (3, 2), (4, 5), (14, 9), (7, 6), (2, 13)])
def test_adaptive_avg_pool_equals_the_reference(output_size):
    check_op(
        lambda x: pooling.adaptive_avg_pool(x, output_size),
        lambda x: reference.adaptive_avg_pool(x, output_size),
        maps(),
        transforms=TRANSFORMS if output_size == (4, 5) else ("jit",),
    )


def test_global_avg_pool_equals_the_reference():
    check_op(pooling.global_avg_pool, reference.global_avg_pool, maps())


def test_unpool_equals_the_reference():
    x = maps((2, 8, 6, 3))
    values, indices = pooling.max_pool_with_indices(x, 2)
    check_op(pooling.max_unpool, reference.max_unpool, values, indices, output_size=(8, 6))
    unpooled = pooling.max_unpool(values, indices, output_size=(8, 6))
    np.testing.assert_array_equal(
        pooling.max_pool(jnp.where(unpooled == 0, -9, unpooled), 2), values
    )
    kept = unpooled != 0
    assert kept.sum() == values.size
    np.testing.assert_array_equal(unpooled[kept], x[kept])


def test_unpool_drops_places_outside_and_takes_one_of_several():
    x = np.float32([1, 2, 3, 4]).reshape(1, 2, 2, 1)
    indices = np.int32([-1, 6, 5, 0]).reshape(1, 2, 2, 1)
    actual = pooling.max_unpool(x, indices, output_size=(2, 3))
    np.testing.assert_array_equal(actual[0, :, :, 0], [[4, 0, 0], [0, 0, 3]])
    gradient = jax.grad(lambda x: pooling.max_unpool(x, indices, output_size=(2, 3)).sum())(x)
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[0, 0], [1, 1]])

    actual, back = jax.vjp(
        lambda x: pooling.max_unpool(x, np.zeros_like(indices), output_size=(2, 3)), x
    )
    assert actual[0, 0, 0, 0] in x
    np.testing.assert_array_equal(back(jnp.ones_like(actual))[0], x == actual[0, 0, 0, 0])


@pytest.mark.slow
def test_gradients_equal_finite_differences():
    with jax.enable_x64(True):
        # All values apart from each other: no maximum changes place.
        x = np.random.default_rng(2).permutation(2 * 7 * 6 * 2).reshape(2, 7, 6, 2) / 10.0
        for kernel_size, options in WINDOWS[1::4]:
            for op in (pooling.max_pool, pooling.avg_pool):
                pool = jax.jit(lambda x, op=op, k=kernel_size, o=options: op(x, k, **o))
                check_grads(pool, (x,), order=1, modes=["rev"])
        check_grads(lambda x: pooling.adaptive_avg_pool(x, (4, 9)), (x,), order=1, modes=["rev"])
        check_grads(pooling.global_avg_pool, (x,), order=1, modes=["rev"])
        values, indices = pooling.max_pool_with_indices(x, 2)
        check_grads(
            lambda v: pooling.max_unpool(v, indices, output_size=(7, 6)),
            (values,),
            order=1,
            modes=["rev"],
        )


def test_double_precision_stays_and_half_is_summed_in_float32():
    ops = [
        lambda x: pooling.avg_pool(x, 3, stride=2, padding=1),
        lambda x: pooling.adaptive_avg_pool(x, (3, 4)),
        pooling.global_avg_pool,
    ]
    with jax.enable_x64(True):
        x = maps().astype(np.float64) + 1e-12
        for op in [*ops, lambda x: pooling.max_pool(x, 3)]:
            assert op(x).dtype == jnp.float64
        np.testing.assert_allclose(
            pooling.global_avg_pool(x), reference.global_avg_pool(x), rtol=1e-14, atol=1e-15
        )
    for dtype in (jnp.float16, jnp.bfloat16):
        x = jnp.asarray(maps((1, 40, 40, 1)) + 100, dtype)  # the sum leaves float16
        for op in ops:
            np.testing.assert_array_equal(op(x), op(x.astype(jnp.float32)).astype(dtype))
        assert pooling.max_pool(x, 3).dtype == dtype


def test_ties_and_constant_maps_have_finite_gradients():
    x = np.zeros((1, 7, 6, 2), np.float32)
    for op in (pooling.max_pool, pooling.avg_pool, pooling.adaptive_avg_pool):
        check_finite_gradients(lambda x, op=op: op(x, 3), x)


def test_wrong_shapes_and_dtypes_name_the_argument():
    x = maps()
    pools = [pooling.max_pool, pooling.max_pool_with_indices, pooling.avg_pool]
    for op in [*pools, pooling.adaptive_avg_pool]:
        for bad in (x[0], x[None], x > 0):
            with pytest.raises(AssertionError, match=r"x is .*: give (float|number)"):
                jax.jit(lambda x, op=op: op(x, 2))(bad)
    for op in (pooling.avg_pool, pooling.adaptive_avg_pool):
        with pytest.raises(AssertionError, match="x is int32"):
            op(x.astype(np.int32), 2)
    with pytest.raises(AssertionError, match="x is int32"):
        pooling.global_avg_pool(x.astype(np.int32))
    with pytest.raises(AssertionError, match="no cells"):
        pooling.global_avg_pool(x[:, :0])
    for op in pools:
        with pytest.raises(AssertionError, match=r"x is .* too small for windows of 8 x 2"):
            op(x, (8, 2))
    indices = np.zeros(x.shape, np.int32)
    with pytest.raises(AssertionError, match="indices is float32"):
        pooling.max_unpool(x, x, output_size=(9, 9))
    with pytest.raises(AssertionError, match="indices is int32"):
        pooling.max_unpool(x, indices[:1], output_size=(9, 9))
    with pytest.raises(AssertionError, match="x is float32"):
        pooling.max_unpool(x[0], indices[0], output_size=(9, 9))


@pytest.mark.parametrize("op", [pooling.max_pool, pooling.max_pool_with_indices, pooling.avg_pool])
def test_wrong_options_are_named(op):
    x = maps()
    for options in (
        {"kernel_size": 0},
        {"kernel_size": (2, 2, 2)},
        {"kernel_size": 2.5},
        {"kernel_size": 2, "stride": (1, 0)},
        {"kernel_size": 2, "stride": "2"},
        {"kernel_size": 2, "padding": -1},
        {"kernel_size": 3, "padding": 2},
    ):
        with pytest.raises(ValueError, match=f"{list(options)[-1]} is "):
            op(x, **options)


@pytest.mark.parametrize("size", [0, (2, -1), (1, 2, 3), None])
def test_wrong_output_sizes_are_named(size):
    with pytest.raises(ValueError, match="output_size is "):
        pooling.adaptive_avg_pool(maps(), size)
    with pytest.raises(ValueError, match="output_size is "):
        pooling.max_unpool(maps(), np.zeros((2, 7, 6, 3), np.int32), output_size=size)


def _channels_first(torch, x):
    return torch.tensor(np.moveaxis(np.asarray(x), -1, 1).copy())


@pytest.mark.parity
@pytest.mark.parametrize(("kernel_size", "options"), WINDOWS)
def test_pooling_equals_torch(kernel_size, options):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    for height in (7, 8, 10):
        x = maps((2, height, 9, 3), ties=True)
        there = _channels_first(torch, x)
        values, indices = functional.max_pool2d(there, kernel_size, **options, return_indices=True)
        actual = pooling.max_pool_with_indices(x, kernel_size, **options)
        for a, e in zip(actual, (values, indices), strict=True):
            np.testing.assert_array_equal(np.moveaxis(np.asarray(a), -1, 1), e.numpy())
        for count_include_pad in (True, False):
            options_here = options | {"count_include_pad": count_include_pad}
            np.testing.assert_allclose(
                np.moveaxis(np.asarray(pooling.avg_pool(x, kernel_size, **options_here)), -1, 1),
                functional.avg_pool2d(there, kernel_size, **options_here).numpy(),
                rtol=1e-6,
                atol=1e-6,
            )


@pytest.mark.parity
def test_adaptive_pooling_and_unpooling_equal_torch():
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    x = maps((2, 11, 8, 3))
    there = _channels_first(torch, x)
    for size in (1, 2, 3, 5, 6, 7, 11, (13, 4), (22, 17)):
        np.testing.assert_allclose(
            np.moveaxis(np.asarray(pooling.adaptive_avg_pool(x, size)), -1, 1),
            functional.adaptive_avg_pool2d(there, size).numpy(),
            rtol=1e-5,
            atol=1e-6,
        )
    values, indices = pooling.max_pool_with_indices(x, 2)
    expected = functional.max_unpool2d(
        *functional.max_pool2d(there, 2, return_indices=True), 2, output_size=(11, 8)
    )
    actual = pooling.max_unpool(values, indices, output_size=(11, 8))
    np.testing.assert_array_equal(np.moveaxis(np.asarray(actual), -1, 1), expected.numpy())
