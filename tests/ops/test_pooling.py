"""Pooling: against plain loops, the library's gradients where maxima tie, and torch."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jaxvision.ops import pooling
from jaxvision.testing import check_finite_gradients
from tests.marks import long_but, slow_but
from tests.ops.compiled import Case, check_cases, compiled
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


QUICK = [3, 6, 9]
numbers = {"quick": QUICK, "others": [n for n in range(len(WINDOWS)) if n not in QUICK]}


@pytest.mark.parametrize("which", slow_but(numbers, ["quick"]))
def test_max_pool_equals_the_reference_in_value_index_and_gradient(which):
    """Both operators, and both gradients, with each kind of window in one program."""
    x = maps(ties=True)
    windows = {number: WINDOWS[number] for number in numbers[which]}
    expected = {
        number: reference.max_pool_with_indices(x, size, **options)
        for number, (size, options) in windows.items()
    }
    cotangents = {number: maps(pair[0].shape, seed=1) for number, pair in expected.items()}

    @jax.jit
    def run(x, cotangents):
        results = {}
        for number, (size, options) in windows.items():
            value, back = jax.vjp(lambda x, n=size, o=options: pooling.max_pool(x, n, **o), x)
            first, back_of_first, indices = jax.vjp(
                lambda x, n=size, o=options: pooling.max_pool_with_indices(x, n, **o),
                x,
                has_aux=True,
            )
            cotangent = cotangents[number]
            gradients = back(cotangent)[0], back_of_first(cotangent)[0]
            results[number] = value, first, indices, *gradients
        return results

    for number, results in jax.device_get(run(x, cotangents)).items():
        value, first, indices, gradient, gradient_of_first = results
        size, options = windows[number]
        np.testing.assert_array_equal(value, expected[number][0])
        np.testing.assert_array_equal(first, value)
        np.testing.assert_array_equal(indices, expected[number][1])
        assert indices.dtype == np.int32
        slow = reference.max_pool_gradient(x, cotangents[number], size, **options)
        np.testing.assert_allclose(gradient, slow, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(gradient_of_first, gradient)


@pytest.mark.parametrize("dtype", slow_but([jnp.float32, jnp.bfloat16], []))
def test_max_pool_equals_flax_in_value_and_gradient(dtype):
    x = maps((2, 9, 8, 4), ties=True)
    x[0, :4, :4] = -np.inf  # windows of nothing but the padding's value
    windows = [((3, 3), (2, 2), (1, 1)), ((5, 5), (1, 1), (2, 2)), ((2, 3), (3, 1), (0, 1))]

    def both(x, size, stride, padding):
        def library(x):
            return nn.max_pool(x, size, stride, tuple((p, p) for p in padding))

        def ours(x):
            return pooling.max_pool(x, size, stride=stride, padding=padding)

        results = []
        for fn in (ours, library):
            value, back = jax.vjp(fn, x)
            # Small integers: their sums are exact in any order.
            cotangent = jnp.asarray(maps(value.shape, seed=1, ties=True), dtype)
            results.append((value, back(cotangent)[0]))
        return results

    run = jax.jit(lambda x: [both(x, *window) for window in windows])
    for actual, expected in run(x.astype(dtype)):
        chex.assert_trees_all_equal(actual, expected)


@jax.jit
def _pool(x):
    """The values and the indices, the gradient of their sum, and that of the library."""

    def total(x):
        values, indices = pooling.max_pool_with_indices(x, 3, stride=2, padding=1)
        return values.sum(), (values, indices)

    gradient, results = jax.grad(total, has_aux=True)(x)
    library = jax.grad(lambda x: nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1))).sum())
    return results, gradient, library(x)


@pytest.mark.slow
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
    results, gradient, of_library = _pool(x)
    chex.assert_trees_all_equal(results, reference.max_pool_with_indices(x, 3, stride=2, padding=1))
    np.testing.assert_array_equal(gradient, of_library)


def test_max_pool_by_hand():
    @jax.jit
    def run(x):
        gradient = jax.grad(lambda x: pooling.max_pool(x, 2, stride=1).sum())(x)
        return *pooling.max_pool_with_indices(x, 2, stride=1), gradient

    x = np.float32([[1, 5, 5], [5, 2, 0], [3, 3, 4]]).reshape(1, 3, 3, 1)
    values, indices, gradient = run(x)
    np.testing.assert_array_equal(values[0, :, :, 0], [[5, 5], [5, 4]])
    np.testing.assert_array_equal(indices[0, :, :, 0], [[1, 1], [3, 8]])
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[0, 2, 0], [1, 0, 0], [0, 0, 1]])


def test_max_pool_takes_integers_and_hands_nan_on():
    with_indices = compiled(pooling.max_pool_with_indices)
    x = (maps(ties=True) * 50).astype(np.int8)
    for least in (x, np.full_like(x, -128)):
        actual = with_indices(least, 3, stride=2, padding=1)
        assert actual[0].dtype == jnp.int8
        chex.assert_trees_all_equal(
            actual, reference.max_pool_with_indices(least, 3, stride=2, padding=1)
        )
    x = maps()
    x[0, 3, 3, 0] = np.nan

    @jax.jit
    def run(x):
        def both(size):
            ours = pooling.max_pool(x, size, stride=1, padding=size // 2)
            return ours, nn.max_pool(x, (size, size), (1, 1), ((size // 2,) * 2,) * 2)

        return {size: both(size) for size in (3, 5)}

    for size, (actual, expected) in run(x).items():
        np.testing.assert_array_equal(actual, expected)
        assert np.isnan(actual).sum() == size**2


@pytest.mark.long
def test_max_pool_of_a_window_of_more_cells_than_a_byte_counts():
    x = maps((1, 1, 258, 1), ties=True)
    x[0, 0, 256] = 9
    gradient = jax.jit(jax.grad(lambda x: pooling.max_pool(x, (1, 257)).sum()))(x)
    np.testing.assert_array_equal(
        gradient, reference.max_pool_gradient(x, np.ones((1, 1, 1, 1)), (1, 257))
    )


def test_pooling_of_no_images_and_no_channels():
    for shape in ((0, 4, 4, 2), (2, 4, 4, 0)):

        @jax.jit
        def run(x):
            pools = pooling.max_pool, pooling.avg_pool, pooling.adaptive_avg_pool
            values = [op(x, 2) for op in pools]
            gradients = [jax.grad(lambda x, op=op: op(x, 2).sum())(x) for op in pools]
            unpooled = pooling.max_unpool(*pooling.max_pool_with_indices(x, 2), output_size=(4, 4))
            return values, [*gradients, unpooled], pooling.global_avg_pool(x)

        values, like_x, average = run(np.zeros(shape, np.float32))
        assert {value.shape for value in values} == {(shape[0], 2, 2, shape[3])}
        assert {x.shape for x in like_x} == {shape}
        assert average.shape == (shape[0], shape[3])


def test_averages_equal_the_reference():
    cases = {"global": Case(pooling.global_avg_pool, reference.global_avg_pool, (maps(),))}
    for size, options in WINDOWS[::2]:
        for count_include_pad in (True, False):
            options = options | {"count_include_pad": count_include_pad}
            cases[f"{size}, {options}"] = Case(
                functools.partial(pooling.avg_pool, kernel_size=size),
                functools.partial(reference.avg_pool, kernel_size=size),
                (maps() * 1e6,),
                options,
                atol=0.2,
            )
    for size in (1, 7, (3, 2), (4, 5), (14, 9), (7, 6), (2, 13)):
        pair = pooling.adaptive_avg_pool, reference.adaptive_avg_pool
        cases[f"adaptive to {size}"] = Case(*pair, (maps(),), {"output_size": size})
    check_cases(cases)


def test_avg_pool_by_hand():
    x = np.float32([[1, 2, 3], [4, 5, 6], [7, 8, 9]]).reshape(1, 3, 3, 1)

    @jax.jit
    def run(x):
        options = {"stride": 2, "padding": 1}
        return (
            pooling.avg_pool(x, 2, **options),
            pooling.avg_pool(x, 2, **options, count_include_pad=False),
            pooling.avg_pool(x, 2, ceil_mode=True),
        )

    including, excluding, ceiled = run(x)
    np.testing.assert_array_equal(including[0, :, :, 0], [[1 / 4, 5 / 4], [11 / 4, 28 / 4]])
    np.testing.assert_array_equal(excluding[0, :, :, 0], [[1, 5 / 2], [11 / 2, 7]])
    # The last window has one cell; what lies beyond counts in no mode.
    np.testing.assert_array_equal(ceiled[0, :, :, 0], [[3, 4.5], [7.5, 9]])


def test_unpool_equals_the_reference():
    x = maps((2, 8, 6, 3))

    @jax.jit
    def run(x):
        values, indices = pooling.max_pool_with_indices(x, 2)
        unpooled = pooling.max_unpool(values, indices, output_size=(8, 6))
        return (
            values,
            indices,
            unpooled,
            pooling.max_pool(jnp.where(unpooled == 0, -9, unpooled), 2),
        )

    values, indices, unpooled, again = jax.device_get(run(x))
    np.testing.assert_array_equal(
        unpooled, reference.max_unpool(values, indices, output_size=(8, 6))
    )
    np.testing.assert_array_equal(again, values)
    kept = unpooled != 0
    assert kept.sum() == values.size
    np.testing.assert_array_equal(unpooled[kept], x[kept])


def test_unpool_drops_places_outside_and_takes_one_of_several():
    x = np.float32([1, 2, 3, 4]).reshape(1, 2, 2, 1)

    @jax.jit
    def run(x, indices):
        value, back = jax.vjp(lambda x: pooling.max_unpool(x, indices, output_size=(2, 3)), x)
        return value, back(jnp.ones_like(value))[0]

    actual, gradient = run(x, np.int32([-1, 6, 5, 0]).reshape(1, 2, 2, 1))
    np.testing.assert_array_equal(actual[0, :, :, 0], [[4, 0, 0], [0, 0, 3]])
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[0, 0], [1, 1]])

    actual, gradient = jax.device_get(run(x, np.zeros(x.shape, np.int32)))
    assert actual[0, 0, 0, 0] in x
    np.testing.assert_array_equal(gradient, x == actual[0, 0, 0, 0])


def test_double_precision_stays_and_half_is_summed_in_float32():
    def averages(x):
        return (
            pooling.avg_pool(x, 3, stride=2, padding=1),
            pooling.adaptive_avg_pool(x, (3, 4)),
            pooling.global_avg_pool(x),
        )

    @jax.jit
    def run(x):
        single = averages(x.astype(jnp.float32))
        return averages(x), [y.astype(x.dtype) for y in single], pooling.max_pool(x, 3)

    with jax.enable_x64(True):
        x = maps().astype(np.float64) + 1e-12
        actual, _, largest = run(x)
        assert {y.dtype.name for y in (*actual, largest)} == {"float64"}
        expected = reference.global_avg_pool(x)
        np.testing.assert_allclose(actual[2], expected, rtol=1e-14, atol=1e-15)
    for dtype in (jnp.float16, jnp.bfloat16):
        x = (maps((1, 40, 40, 1)) + 100).astype(dtype)  # the sum leaves float16
        actual, expected, largest = run(x)
        chex.assert_trees_all_equal(list(actual), expected)
        assert {y.dtype for y in (*actual, largest)} == {np.dtype(dtype)}


def test_ties_and_constant_maps_have_finite_gradients():
    pools = pooling.max_pool, pooling.avg_pool, pooling.adaptive_avg_pool
    x = np.zeros((1, 7, 6, 2), np.float32)
    check_finite_gradients(lambda x: [op(x, 3) for op in pools], x)


def test_wrong_shapes_and_dtypes_name_the_argument():
    x = maps()
    pools = [pooling.max_pool, pooling.max_pool_with_indices, pooling.avg_pool]
    for op in [*pools, pooling.adaptive_avg_pool]:
        for bad in (x[0], x[None], x > 0):
            with pytest.raises(AssertionError, match=r"x is .*: give (float|number)"):
                jax.eval_shape(lambda x, op=op: op(x, 2), bad)
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
@pytest.mark.parametrize(("kernel_size", "options"), long_but(WINDOWS, WINDOWS[::4]))
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
