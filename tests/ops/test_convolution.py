"""Convolutions: against loops, against the library in value and gradient, and on each platform."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from jaxvision.ops.convolution import conv2d, conv_general_dilated, conv_transpose2d
from jaxvision.testing import transformed
from tests.derivatives import check_derivatives
from tests.marks import long_but, slow_but
from tests.ops.compiled import Case, check_cases, compiled
from tests.reference.ops import convolution as reference

# Name -> (size of x, size of the kernel, options). Odd sizes, so that strides leave a rest.
CASES = {
    "dense": ((2, 7, 6, 3), (3, 3, 3, 4), {"padding": 1}),
    "dense, everything uneven": (
        (1, 9, 8, 2),
        (3, 2, 2, 3),
        {"stride": (2, 1), "padding": ((0, 2), (1, 0)), "dilation": (1, 2)},
    ),
    "dense, several strips": ((2, 35, 4, 3), (3, 3, 3, 4), {"padding": 1}),
    "dense, several strips, everything uneven": (
        (1, 70, 4, 2),
        (3, 2, 2, 3),
        {"stride": (2, 1), "padding": ((40, 35), (1, 0)), "dilation": (20, 2)},
    ),
    "pointwise": ((2, 5, 4, 3), (1, 1, 3, 5), {}),
    "pointwise, padded": ((1, 4, 3, 2), (1, 1, 2, 3), {"padding": 1, "stride": 2}),
    "pointwise groups": ((2, 5, 4, 6), (1, 1, 2, 9), {"groups": 3}),
    "depthwise": ((2, 7, 6, 5), (3, 3, 1, 5), {"padding": 1, "groups": 5}),
    "depthwise, strided": ((2, 8, 7, 5), (3, 3, 1, 5), {"stride": 2, "padding": 1, "groups": 5}),
    "depthwise, dilated": (
        (1, 9, 8, 4),
        (3, 3, 1, 4),
        {"dilation": (2, 3), "padding": ((1, 2), (3, 0)), "groups": 4},
    ),
    "depthwise, many rows": ((1, 30, 3, 4), (3, 3, 1, 4), {"padding": 1, "groups": 4}),
    "depthwise 5x5, strided": (
        (1, 9, 8, 4),
        (5, 5, 1, 4),
        {"stride": 2, "padding": 2, "groups": 4},
    ),
    "depthwise 5x4, everything uneven": (
        (1, 11, 9, 4),
        (5, 4, 1, 4),
        {"stride": (3, 2), "padding": ((4, 0), (1, 5)), "groups": 4},
    ),
    "depthwise 5x4, a stride above the kernel": (
        (1, 11, 9, 4),
        (5, 4, 1, 4),
        {"stride": (6, 1), "padding": ((4, 0), (1, 5)), "groups": 4},
    ),
    "depthwise 5x5, dilated and strided": (
        (1, 11, 10, 4),
        (5, 5, 1, 4),
        {"dilation": 2, "stride": (1, 2), "padding": 4, "groups": 4},
    ),
    "depthwise 12x11": ((1, 12, 11, 4), (12, 11, 1, 4), {"padding": (6, 2), "groups": 4}),
    "depthwise with 3 outputs a channel": (
        (2, 7, 6, 4),
        (3, 3, 1, 12),
        {"padding": 1, "groups": 4, "stride": 2},
    ),
    "groups": ((2, 7, 6, 8), (3, 3, 2, 4), {"padding": 1, "groups": 4}),
    "many narrow groups": (
        (1, 6, 5, 32),
        (3, 2, 2, 48),
        {"padding": ((1, 0), (2, 1)), "stride": (1, 2), "groups": 16},
    ),
    "groups too wide to merge": ((1, 4, 5, 36), (2, 2, 18, 4), {"groups": 2, "stride": 2}),
    "groups, everything uneven": (
        (1, 9, 8, 6),
        (3, 2, 3, 4),
        {"stride": (1, 3), "padding": ((0, 2), (1, 0)), "dilation": (2, 1), "groups": 2},
    ),
    "no image": ((0, 5, 5, 4), (3, 3, 1, 4), {"groups": 4}),
}
# Each form with all that is uneven about it.
QUICK = [
    "dense, everything uneven",
    "dense, several strips, everything uneven",
    "pointwise, padded",
    "depthwise, dilated",
    "depthwise 5x4, everything uneven",
    "groups, everything uneven",
    "many narrow groups",
]
OTHERS = [name for name in CASES if name not in QUICK]
# Many cases at once, as each of them alone is a small program.
parts = pytest.mark.parametrize(
    "names",
    [QUICK, pytest.param(OTHERS, marks=pytest.mark.slow)],
    ids=["quick", "others"],
)

TRANSPOSED = {
    "2x2 at stride 2": ((2, 3, 4, 3), (2, 2, 3, 5), {"stride": 2}),
    "tiles of another form": ((1, 3, 4, 3), (3, 1, 3, 2), {"stride": (3, 1)}),
    "4x4 at stride 2": ((2, 3, 4, 3), (4, 4, 3, 2), {"stride": 2, "padding": 1}),
    "output padding": (
        (1, 3, 4, 3),
        (3, 3, 3, 2),
        {"stride": 2, "padding": 1, "output_padding": (1, 0)},
    ),
    "2x2 with a rest": ((1, 3, 4, 3), (2, 2, 3, 2), {"stride": 2, "output_padding": 1}),
    "output padding above the stride": (
        (1, 4, 3, 3),
        (3, 3, 3, 2),
        {"dilation": 3, "padding": 2, "output_padding": 2},
    ),
    "stride above the kernel": ((1, 3, 4, 3), (2, 2, 3, 2), {"stride": (4, 3)}),
    "groups": ((1, 3, 4, 6), (3, 3, 6, 2), {"stride": 2, "padding": 1, "groups": 3}),
    "depthwise": ((1, 3, 4, 5), (4, 4, 5, 1), {"stride": 2, "padding": 1, "groups": 5}),
}


def normal(*size, dtype=np.float32):
    return np.random.default_rng(size).normal(size=size).astype(dtype)


def library(x, kernel, *, stride=1, padding=0, dilation=1, groups=1):
    """The library's convolution, with our options."""

    def pair(value):
        return (value, value) if isinstance(value, int) else value

    return lax.conv_general_dilated(
        x,
        kernel,
        pair(stride),
        [pair(side) for side in pair(padding)],
        rhs_dilation=pair(dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def cotangent_of(y):
    wide = jnp.sin(jnp.arange(y.size, dtype=jnp.promote_types(y.dtype, "f4")))
    return wide.reshape(y.shape).astype(y.dtype)


def value_and_gradients(fn, x, kernel):
    """The value, and the gradients by both arguments against a fixed cotangent."""
    y, vjp = jax.vjp(fn, x, kernel)
    return y, *vjp(cotangent_of(y))


def with_gradients(fn, x, kernel):
    return jax.jit(functools.partial(value_and_gradients, fn))(x, kernel)


def largest_difference(actual, expected):
    """Over the values; in units of the largest of the values expected."""

    def difference(a, e):
        wide = np.promote_types(e.dtype, np.float32)
        a, e = np.asarray(a, wide), np.asarray(e, wide)
        return float(np.abs(a - e).max(initial=0)) / max(1, float(np.abs(e).max(initial=0)))

    return max(difference(a, e) for a, e in zip(actual, expected, strict=True))


def cases_of(fn, slow, table, atol):
    return {
        name: Case(fn, slow, (normal(*size), normal(*kernel_size)), options, atol=atol)
        for name, (size, kernel_size, options) in table.items()
    }


@parts
def test_conv2d_equals_the_reference(names):
    cases = {name: CASES[name] for name in names}
    check_cases(cases_of(conv2d, reference.conv2d, cases, 2e-5))


@parts
def test_conv2d_has_the_values_and_gradients_of_the_library(names):
    with jax.enable_x64(True):
        arrays = {
            name: [normal(*size, dtype=np.float64) for size in CASES[name][:2]] for name in names
        }

        @jax.jit
        def run(arrays):
            def of(fn, name):
                fn = functools.partial(fn, **CASES[name][2])
                return value_and_gradients(fn, *arrays[name])

            return {name: (of(conv2d, name), of(library, name)) for name in names}

        for name, (actual, expected) in run(arrays).items():
            assert {a.dtype for a in actual} == {np.dtype("f8")}
            assert largest_difference(actual, expected) < 1e-13, name


@pytest.mark.slow
@settings(deadline=None, derandomize=True, max_examples=6)
@given(
    size=st.tuples(st.integers(6, 9), st.integers(6, 9)),
    kernel_size=st.sampled_from([(1, 1), (2, 2), (3, 3), (3, 1), (5, 5)]),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.sampled_from([1, (1, 2)]),
    padding=st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * 2),
    channels=st.sampled_from([(1, 4, 4), (4, 1, 1), (4, 1, 2), (2, 3, 2), (20, 1, 1)]),
)
def test_any_convolution_equals_the_library(size, kernel_size, stride, dilation, padding, channels):
    groups, inputs, outputs = channels
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    x = normal(1, *size, groups * inputs)
    kernel = normal(*kernel_size, inputs, groups * outputs)
    if min(library(x, kernel, **options).shape) < 1:
        return
    actual = with_gradients(functools.partial(conv2d, **options), x, kernel)
    expected = with_gradients(functools.partial(library, **options), x, kernel)
    assert largest_difference(actual, expected) < 3e-6


@pytest.mark.parametrize("name", slow_but(["depthwise 5x5, strided", "groups"], []))
def test_gradients_on_each_device_are_the_librarys(name):
    size, kernel_size, options = CASES[name]
    arrays = normal(*size), normal(*kernel_size)

    def both(x, kernel):
        def of(fn):
            total = lambda *a: (fn(*a, **options) ** 2).sum()  # noqa: E731
            return jax.grad(total, argnums=(0, 1))(x, kernel)

        return of(conv2d), of(library)

    actual, expected = transformed(both, "pmap")(*arrays)
    assert largest_difference(actual, expected) < 3e-6


@pytest.mark.parametrize("name", slow_but(["depthwise", "groups"], []))
def test_one_argument_alone_may_be_batched(name):
    size, kernel_size, options = CASES[name]
    xs, kernels = normal(3, *size), normal(3, *kernel_size)

    def run(x, kernel):
        def total(x, kernel):
            y = conv2d(x, kernel, **options)
            return (y**2).sum(), y

        return jax.grad(total, argnums=(0, 1), has_aux=True)(x, kernel)

    @jax.jit
    def both(xs, kernels):
        mapped = jax.vmap(run, (0, None))(xs, kernels[0]), jax.vmap(run, (None, 0))(xs[0], kernels)
        one = (
            jax.lax.map(lambda x: run(x, kernels[0]), xs),
            jax.lax.map(lambda kernel: run(xs[0], kernel), kernels),
        )
        return mapped, one

    mapped, one = both(xs, kernels)
    assert largest_difference(jax.tree.leaves(mapped), jax.tree.leaves(one)) < 3e-6


HALVES = {
    "depthwise": jnp.bfloat16,
    "depthwise 5x5, strided": jnp.float16,
    "groups": jnp.bfloat16,
    "many narrow groups": jnp.float16,
    "pointwise": jnp.bfloat16,
    "dense, several strips": jnp.bfloat16,
}


@pytest.mark.long
def test_half_precision_is_summed_up_in_float32():
    arrays = {name: [normal(*s).astype(HALVES[name]) for s in CASES[name][:2]] for name in HALVES}

    @jax.jit
    def run(arrays):
        def of(fn, name, *arrays):
            return value_and_gradients(functools.partial(fn, **CASES[name][2]), *arrays)

        results = {}
        for name, half in arrays.items():
            wide = [x.astype("f4") for x in half]
            results[name] = of(conv2d, name, *half), of(library, name, *wide)
        return results

    for name, (actual, expected) in run(arrays).items():
        dtype = HALVES[name]
        assert {a.dtype for a in actual} == {jnp.dtype(dtype)}
        # A rounding of the value; the cotangents were rounded too.
        assert largest_difference(actual[:1], expected[:1]) <= 0.51 * float(jnp.finfo(dtype).eps)
        assert largest_difference(actual, expected) < 3 * float(jnp.finfo(dtype).eps)


def test_conv2d_by_hand():
    conv = compiled(conv2d)
    x = np.arange(1, 5, dtype="f4").reshape(1, 2, 2, 1)
    kernel = np.float32([[1, 10], [100, 1000]]).reshape(2, 2, 1, 1)
    # Not flipped: the kernel's first row meets the upper pixels.
    assert conv(x, kernel).item() == 1 + 20 + 300 + 4000
    np.testing.assert_array_equal(
        conv(x, kernel, stride=2, padding=((1, 1), (0, 0)))[0, :, 0, 0], [2100, 43]
    )


def test_conv_transpose2d_equals_the_reference():
    check_cases(cases_of(conv_transpose2d, reference.conv_transpose2d, TRANSPOSED, 1e-5))


@pytest.mark.parametrize("name", long_but(TRANSPOSED, [], ["groups"]))
def test_conv_transpose2d_has_the_gradients_of_finite_differences(name):
    size, kernel_size, options = TRANSPOSED[name]
    with jax.enable_x64(True):
        arrays = normal(*size, dtype=np.float64), normal(*kernel_size, dtype=np.float64)
        fn = functools.partial(conv_transpose2d, **options)
        check_derivatives(fn, *arrays, batched=False)


@pytest.mark.parametrize("name", slow_but(["2x2 at stride 2", "depthwise"], ["2x2 at stride 2"]))
def test_gradients_of_the_transposed_on_each_device_are_those_of_one(name):
    size, kernel_size, options = TRANSPOSED[name]
    arrays = normal(*size), normal(*kernel_size)
    fn = functools.partial(conv_transpose2d, **options)
    gradients = jax.grad(lambda *a: (fn(*a) ** 2).sum(), argnums=(0, 1))
    mapped = transformed(lambda *a: (gradients(*a), jax.vmap(gradients)(*_stacked(a))), "pmap")
    alone, together = mapped(*arrays)
    for copy in range(2):
        assert largest_difference([x[copy] for x in together], alone) < 3e-6
    expected = jax.jit(gradients)(*arrays)
    assert largest_difference(alone, expected) < 3e-6


def _stacked(arrays):
    return [jnp.stack([x, x]) for x in arrays]


def test_conv_transpose2d_by_hand():
    transposed = compiled(conv_transpose2d)
    x = np.float32([1, 2]).reshape(1, 1, 2, 1)
    kernel = np.float32([1, 10, 100]).reshape(1, 3, 1, 1)
    y = transposed(x, kernel, stride=2)
    np.testing.assert_array_equal(y.ravel(), [1, 10, 100 + 2, 20, 200])
    y = transposed(x, kernel, stride=2, padding=(0, 1), output_padding=(0, 1))
    np.testing.assert_array_equal(y.ravel(), [10, 102, 20, 200])


def trace(fn, *sizes):
    return jax.jit(fn).trace(*[jax.ShapeDtypeStruct(size, np.float32) for size in sizes])


def lowered(fn, *sizes, platform):
    return trace(fn, *sizes).lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize(
    "name",
    slow_but(
        ["depthwise", "groups", "pointwise groups", "pointwise", "depthwise, strided"],
        ["groups", "depthwise, strided"],
    ),
)
def test_each_platform_gets_its_form_and_no_other(name):
    size, kernel_size, options = CASES[name]
    fn = functools.partial(conv2d, **options)
    groups = options.get("groups", 1)
    forms = [
        (fn, size),
        (jax.grad(lambda *a: (fn(*a) ** 2).sum(), argnums=(0, 1)), size),
        (jax.vmap(fn, (0, None)), (2, *size)),
    ]
    for form, its_size in forms:
        traced = trace(form, its_size, kernel_size)
        for platform in ("cuda", "tpu", "cpu"):
            text = traced.lower(lowering_platforms=(platform,)).as_text()
            of_library = f"feature_group_count = {groups} : i64" in text
            if platform == "cpu":  # small groups are merged to dense convolutions
                assert ("stablehlo.convolution" in text) == (name == "groups")
                assert not (of_library and groups > 1)
            else:
                assert of_library


@pytest.mark.parametrize("platform", ["cuda", "cpu"])
def test_the_gradient_by_a_dense_kernel_is_in_strips_on_cpu_only(platform):
    size, kernel_size, options = CASES["dense, several strips"]

    def by_kernel(x, kernel):
        return jax.grad(lambda kernel: conv2d(x, kernel, **options).sum())(kernel)

    text = lowered(by_kernel, size, kernel_size, platform=platform)
    # 35 rows are 16, 16 and 3.
    gradients = re.findall(r"stablehlo.convolution.*-> tensor<3x3x3x4xf32>", text)
    assert len(gradients) == (3 if platform == "cpu" else 1)


@pytest.mark.parametrize("platform", ["cuda", "cpu"])
def test_a_2x2_transposed_convolution_is_a_product_on_cpu_only(platform):
    size, kernel_size, options = TRANSPOSED["2x2 at stride 2"]
    fn = functools.partial(conv_transpose2d, **options)
    text = lowered(fn, size, kernel_size, platform=platform)
    assert ("stablehlo.convolution" in text) == (platform == "cuda")
    assert ("stablehlo.dot_general" in text) == (platform == "cpu")


def test_an_unused_gradient_costs_nothing():
    size, kernel_size, options = CASES["depthwise, strided"]

    def by_input(x, kernel):
        return jax.grad(lambda x: (conv2d(x, kernel, **options) ** 2).sum())(x)

    text = jax.jit(by_input).lower(normal(*size), normal(*kernel_size)).compile().as_text()
    for spared in (" reduce(", " convolution(", " conditional("):
        assert spared not in text


GENERAL = {
    "SAME": {"padding": "SAME", "feature_group_count": 4},
    "VALID, strided": {"padding": "VALID", "window_strides": (2, 1), "feature_group_count": 4},
    "dilated": {"padding": "SAME", "rhs_dilation": (2, 1), "feature_group_count": 4},
    "negative padding": {"padding": [(-1, 2), (0, -1)], "feature_group_count": 4},
    "dilated input": {
        "padding": [(1, 0), (2, 1)],
        "lhs_dilation": (2, 1),
        "feature_group_count": 4,
    },
    "precision": {"padding": "SAME", "precision": "highest", "feature_group_count": 4},
    "dense": {"padding": "SAME"},
}


def test_conv_general_dilated_is_the_librarys():
    arrays, every = {}, {}
    for name, options in GENERAL.items():
        extent = 1 if "VALID" in options.values() else 3
        groups = options.get("feature_group_count", 1)
        arrays[name] = normal(2, 7, 6, 4), normal(extent, extent, 4 // groups, 8)
        every[name] = {
            "window_strides": (1, 1),
            "dimension_numbers": ("NHWC", "HWIO", "NHWC"),
            **options,
        }

    @jax.jit
    def run(arrays):
        def of(fn, name):
            return value_and_gradients(functools.partial(fn, **every[name]), *arrays[name])

        pair = conv_general_dilated, lax.conv_general_dilated
        return {name: [of(fn, name) for fn in pair] for name in GENERAL}

    for name, (actual, expected) in run(arrays).items():
        assert largest_difference(actual, expected) < 3e-6, name


def test_conv_general_dilated_leaves_other_layouts_and_dimensions_to_the_library():
    for x, kernel, numbers in (
        (normal(1, 4, 6, 5), normal(4, 1, 3, 3), None),
        (normal(1, 6, 4), normal(3, 1, 4), ("NWC", "WIO", "NWC")),
    ):
        strides = (1,) * (x.ndim - 2)
        options = {"dimension_numbers": numbers, "feature_group_count": 4}
        every = [
            functools.partial(fn, window_strides=strides, padding="SAME", **options)
            for fn in (conv_general_dilated, lax.conv_general_dilated)
        ]
        run = jax.jit(lambda *arrays, every=every: [fn(*arrays) for fn in every])
        np.testing.assert_array_equal(*run(x, kernel))


X, KERNEL = np.zeros((1, 5, 5, 4), "f4"), np.zeros((3, 3, 4, 8), "f4")


@pytest.mark.parametrize(
    ("x", "kernel", "message"),
    [
        (X[0], KERNEL, "x is float32"),
        (X.astype(int), KERNEL, "x is int"),
        (X, KERNEL[0], "kernel is float32"),
        (X, KERNEL[:, :, :3], r"kernel is float32\[3, 3, 3, 8\]: give float\[kh, kw, 4, D"),
        (X, KERNEL.astype("f2"), "kernel is float16.*give float32"),
        (X, KERNEL > 0, "kernel is bool"),
        (X, KERNEL[:0], "kernel is .*empty"),
    ],
)
def test_wrong_shapes_and_dtypes_name_the_argument(x, kernel, message):
    for fn in (conv2d, conv_transpose2d):
        with pytest.raises(AssertionError, match=message):
            jax.eval_shape(fn, x, kernel)


def test_an_image_smaller_than_the_kernel_is_named():
    with pytest.raises(AssertionError, match=r"x is float32\[1, 2, 5, 4\]: it is smaller than"):
        conv2d(X[:, :2], KERNEL)


@pytest.mark.parametrize(
    "options",
    [
        {"stride": 0},
        {"stride": (1, 2, 3)},
        {"stride": 1.5},
        {"padding": -1},
        {"padding": (1, 2, 3)},
        {"padding": "SAME"},
        {"dilation": 0},
        {"groups": 0},
        {"groups": 3},
    ],
)
def test_wrong_options_are_named(options):
    (name,) = options
    for fn in (conv2d, conv_transpose2d):
        with pytest.raises(ValueError, match=f"^{name} is "):
            fn(X, KERNEL, **options)


def test_wrong_options_of_each_alone_are_named():
    with pytest.raises(ValueError, match=r"groups is 4: .* 6, the channels of kernel"):
        conv2d(X, KERNEL[:, :, :1, :6], groups=4)
    with pytest.raises(ValueError, match="padding is"):
        conv2d(X, KERNEL, padding=((1, -1), (0, 0)))
    with pytest.raises(ValueError, match="output_padding is 2"):
        conv_transpose2d(X, KERNEL, stride=2, output_padding=2)
    with pytest.raises(ValueError, match="padding is 4: it leaves nothing"):
        conv_transpose2d(X, KERNEL, padding=4)


@pytest.mark.parity
@pytest.mark.parametrize("name", TRANSPOSED)
def test_conv_transpose2d_equals_torchs_in_value_and_gradient(name):
    torch = pytest.importorskip("torch")
    size, kernel_size, options = TRANSPOSED[name]
    x, kernel = normal(*size), normal(*kernel_size)
    theirs = [
        torch.from_numpy(array.transpose(axes).copy()).requires_grad_()
        for array, axes in ((x, (0, 3, 1, 2)), (kernel, (2, 3, 0, 1)))
    ]
    expected = torch.nn.functional.conv_transpose2d(*theirs, **options)
    actual, *gradients = with_gradients(functools.partial(conv_transpose2d, **options), x, kernel)
    cotangent = np.asarray(cotangent_of(actual))
    expected.backward(torch.from_numpy(cotangent.transpose(0, 3, 1, 2).copy()))
    assert math.isclose(float(jnp.abs(actual).max()), float(expected.abs().max()), rel_tol=1e-5)
    everything = [
        expected.detach().numpy().transpose(0, 2, 3, 1),
        theirs[0].grad.numpy().transpose(0, 2, 3, 1),
        theirs[1].grad.numpy().transpose(2, 3, 0, 1),
    ]
    assert largest_difference([actual, *gradients], everything) < 3e-6
