"""The public kit: it passes what is right and fails what is wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.testing import (
    TRANSFORMS,
    check_finite_gradients,
    check_op,
    check_padding_invariance,
    transformed,
)

X = np.float32([1, 2, 3])


def running_under(x):
    """The transform that an op given x finds itself under."""
    if not isinstance(x, jax.core.Tracer):
        return "eager"
    if jax.sharding.get_abstract_mesh().manual_axes:
        return "pmap"
    return "vmap" if type(x).__name__ == "BatchTracer" else "jit"


def double(x):
    return 2 * x


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_transformed_runs_the_function_as_it_says(transform):
    seen = []
    transformed(lambda x: seen.append(running_under(x)) or x, transform)(X)
    assert seen == [transform]


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_transformed_keeps_the_shape_of_nested_results(transform):
    def op(tree, *, times):
        return {"sum": tree["a"].sum() * times, "pair": (tree["a"], tree["b"])}

    result = transformed(op, transform)({"a": X, "b": np.int32(4)}, times=3)
    np.testing.assert_array_equal(result["sum"], 18)
    np.testing.assert_array_equal(result["pair"][0], X)
    np.testing.assert_array_equal(result["pair"][1], 4)


def test_transformed_refuses_an_unknown_transform():
    with pytest.raises(ValueError, match="'grad': choose one of eager, jit, vmap, pmap"):
        transformed(double, "grad")


@pytest.mark.parametrize("transform", ["vmap", "pmap"])
def test_transformed_fails_when_the_copies_differ(transform):
    calls = []

    def count(_):
        calls.append(None)
        return np.float32(len(calls))

    def op(x):
        shape = jax.ShapeDtypeStruct((), jnp.float32)
        return jax.pure_callback(count, shape, x, vmap_method="sequential")

    with pytest.raises(AssertionError):
        transformed(op, transform)(X)


def test_check_op_passes_equal_functions():
    check_op(double, lambda x: x + x, X)


def test_check_op_hands_static_arguments_to_both():
    check_op(lambda x, *, k: x * k, lambda x, *, k: k * x, X, k=3)
    with pytest.raises(AssertionError):
        check_op(lambda x, *, k: x * k, lambda x, *, k: x, X, k=3)


@pytest.mark.parametrize("wrong", TRANSFORMS)
def test_check_op_fails_an_op_that_is_wrong_under_one_transform_only(wrong):
    def op(x):
        error = 1e-3 if running_under(x) == wrong else 0
        return 2 * x + np.float32([0, error, 0])

    check_op(op, double, X, transforms=[t for t in TRANSFORMS if t != wrong])
    with pytest.raises(AssertionError, match=f"under {wrong}:"):
        check_op(op, double, X)


@pytest.mark.parametrize(
    "reference",
    [
        lambda x: (2 * x)[None],
        lambda x: (2 * x)[:2],
        lambda x: (2 * x, 2 * x),
        lambda x: {"x": 2 * x},
        lambda x: np.where(x == 2, np.nan, 2 * x),
    ],
    ids=["rank", "shape", "structure", "type", "nan"],
)
def test_check_op_fails_results_of_another_kind(reference):
    with pytest.raises(AssertionError):
        check_op(double, reference, X)


def test_check_op_fails_a_scalar_in_the_place_of_equal_numbers():
    with pytest.raises(AssertionError):
        check_op(lambda x: 0 * x, lambda x: np.float32(0), X)


def test_check_op_judges_the_largest_difference_not_the_mean():
    x = np.ones(10_000, np.float32)

    def reference(x):
        out = 2 * x
        out[77] += 1e-4
        return out

    with pytest.raises(AssertionError):
        check_op(double, reference, x)


def test_check_finite_gradients_passes_a_smooth_function():
    check_finite_gradients(lambda x: {"a": jnp.sqrt(x), "b": x**2}, jnp.float32(1))


def test_check_finite_gradients_fails_sqrt_at_zero():
    with pytest.raises(AssertionError):
        check_finite_gradients(jnp.sqrt, jnp.float32(0))


def test_check_finite_gradients_looks_at_the_arguments_asked_for():
    def fn(x, y):
        return x + jnp.sqrt(y)

    check_finite_gradients(fn, jnp.float32(0), jnp.float32(0))
    with pytest.raises(AssertionError):
        check_finite_gradients(fn, jnp.float32(0), jnp.float32(0), argnums=(0, 1))


SCALE = np.float32(2)
ROWS = np.float32([[1, 2], [3, 4], [5, 6]])
MASK = np.array([True, False, True])


def masked_sum(scale, rows, mask):
    rows = jnp.where(mask[:, None], rows, 0)
    return (scale * rows).sum(), mask.sum()


def test_check_padding_invariance_passes_a_masked_loss():
    check_padding_invariance(masked_sum, SCALE, ROWS, MASK, padded=(1,), mask=2)


def test_check_padding_invariance_passes_when_the_first_argument_is_padded():
    def loss(rows, mask):
        return masked_sum(1, rows, mask)

    check_padding_invariance(loss, ROWS, MASK, padded=(0,), mask=1)


@pytest.mark.parametrize("rows", [ROWS, ROWS.astype(np.int32)], ids=["float", "integer"])
def test_check_padding_invariance_fails_a_loss_that_ignores_its_mask(rows):
    def loss(scale, rows, mask):
        return (scale * rows).sum(), mask.sum()

    with pytest.raises(AssertionError):
        check_padding_invariance(loss, SCALE, rows, MASK, padded=(1,), mask=2)


def test_check_padding_invariance_fails_such_a_loss_when_the_first_argument_is_padded():
    with pytest.raises(AssertionError):
        check_padding_invariance(lambda rows, mask: rows.sum(), ROWS, MASK, padded=(0,), mask=1)


def test_check_padding_invariance_fails_a_loss_that_counts_the_rows():
    def loss(scale, rows, mask):  # the gradient is right
        return masked_sum(scale, rows, mask)[0] + len(rows)

    with pytest.raises(AssertionError):
        check_padding_invariance(loss, SCALE, ROWS, MASK, padded=(1,), mask=2)


def test_check_padding_invariance_fails_a_loss_whose_gradient_leaks():
    def loss(scale, rows, mask):  # masks after the arithmetic: the value is right
        return jnp.where(mask[:, None], jnp.sqrt(scale * rows), 0).sum()

    np.testing.assert_allclose(
        loss(SCALE, np.concatenate([ROWS, -ROWS]), np.concatenate([MASK, np.zeros(3, bool)])),
        loss(SCALE, ROWS, MASK),
    )
    with pytest.raises(AssertionError):
        check_padding_invariance(loss, SCALE, ROWS, MASK, padded=(1,), mask=2)


def test_padding_invariance_sees_a_leak_into_padded_predictions():
    """The value is right, but the gradient of what is padded is not zero."""

    def leaking(boxes, mask):
        total = jnp.where(mask, boxes.sum(1), 0).sum()
        leak = jnp.where(mask, 0, boxes.sum(1)).sum()
        return total + leak - jax.lax.stop_gradient(leak)

    def sound(boxes, mask):
        return jnp.where(mask, boxes.sum(1), 0).sum()

    boxes, mask = np.ones((3, 4), np.float32), np.ones(3, bool)
    check_padding_invariance(sound, boxes, mask, padded=(0,), mask=1)
    with pytest.raises(AssertionError):
        check_padding_invariance(leaking, boxes, mask, padded=(0,), mask=1)


def test_padding_invariance_takes_trees():
    outputs = {"boxes": np.ones((2, 4), np.float32)}

    def leaking(outputs, boxes, mask):
        return outputs["boxes"].sum() * jnp.where(mask, boxes[:, 0], jnp.nan).sum()

    with pytest.raises(AssertionError):
        check_padding_invariance(
            leaking, outputs, np.ones((3, 4), np.float32), np.ones(3, bool), padded=(1,), mask=2
        )
