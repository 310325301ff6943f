"""Space to depth and back, in all orders, and shuffled channels."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxvision.ops import rearrange
from tests.ops.compiled import compiled
from tests.reference.ops import rearrange as reference


def counted(shape):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def test_each_equals_the_reference_and_its_inverse():
    shapes = {2: (2, 4, 6, 8), 3: (6, 3, 9)}

    @jax.jit
    def run(arrays):
        results = {}
        for size, order in itertools.product(shapes, rearrange.ORDERS):
            how = {"block_size": size, "order": order}
            there = rearrange.space_to_depth(arrays[size], **how)
            results[size, order] = there, rearrange.depth_to_space(there, **how)
        return results

    arrays = {size: counted(shape) for size, shape in shapes.items()}
    found = jax.device_get(run(arrays))
    for (size, order), (there, back) in found.items():
        how = {"block_size": size, "order": order}
        np.testing.assert_array_equal(there, reference.space_to_depth(arrays[size], **how))
        np.testing.assert_array_equal(back, arrays[size])
        np.testing.assert_array_equal(back, reference.depth_to_space(there, **how))


space_to_depth, depth_to_space, channel_shuffle = (
    compiled(op)
    for op in (rearrange.space_to_depth, rearrange.depth_to_space, rearrange.channel_shuffle)
)


def test_by_hand():
    x = counted((2, 2, 2))  # cells (0, 1), (2, 3) / (4, 5), (6, 7)
    flat = space_to_depth(x, 2)[0, 0]
    np.testing.assert_array_equal(flat, [0, 1, 2, 3, 4, 5, 6, 7])
    flat = space_to_depth(x, 2, order="channel_first")[0, 0]
    np.testing.assert_array_equal(flat, [0, 2, 4, 6, 1, 3, 5, 7])


def test_darknets_order_by_hand():
    # In memory [4, 2, 2], that is 0 to 15; read as [1, 4, 4], whose blocks' upper left cells are
    # 0, 2, 8, 10: the first plane of [4, 2, 2], that is the first 4 channels of [16, 1, 1].
    memory = counted((4, 2, 2))
    actual = space_to_depth(np.moveaxis(memory, 0, -1), 2, order="darknet")
    assert actual.shape == (1, 1, 16)
    np.testing.assert_array_equal(
        actual[0, 0], [0, 2, 8, 10, 1, 3, 9, 11, 4, 6, 12, 14, 5, 7, 13, 15]
    )


def test_yolo_v2s_passthrough():
    x = np.random.default_rng(0).permutation(26 * 26 * 64).reshape(26, 26, 64).astype(np.float32)
    actual = np.asarray(space_to_depth(x, 2, order="darknet"))
    assert actual.shape == (13, 13, 256)
    np.testing.assert_array_equal(actual, reference.space_to_depth(x, 2, order="darknet"))
    assert (actual != np.asarray(space_to_depth(x, 2))).mean() == 0.5


_ORDERS = st.sampled_from(rearrange.ORDERS)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(_ORDERS, st.sampled_from([(4, 4, 4), (2, 6, 8)]))
def test_all_orders_are_permutations(order, shape):
    x = counted(shape)
    moved = np.asarray(space_to_depth(x, 2, order=order))
    np.testing.assert_array_equal(np.sort(moved.ravel()), x.ravel())
    np.testing.assert_array_equal(depth_to_space(moved, 2, order=order), x)


def test_channel_shuffle_equals_the_reference():
    x, groups = counted((2, 3, 6)), (1, 2, 3, 6)

    @jax.jit
    def run(x):
        shuffled = [rearrange.channel_shuffle(x, n) for n in groups]
        # Shuffled with the number of channels in a group it is undone.
        again = [
            rearrange.channel_shuffle(y, 6 // n) for n, y in zip(groups, shuffled, strict=True)
        ]
        return shuffled, again, rearrange.channel_shuffle(jnp.arange(6), 2)

    shuffled, again, by_hand = run(x)
    for n, y, back in zip(groups, shuffled, again, strict=True):
        np.testing.assert_array_equal(y, reference.channel_shuffle(x, n))
        np.testing.assert_array_equal(back, x)
    np.testing.assert_array_equal(by_hand, [0, 3, 1, 4, 2, 5])


def test_dtypes_and_empty_arrays():
    def run(x):
        there = [rearrange.space_to_depth(x, 2, order=order) for order in rearrange.ORDERS]
        back = [
            rearrange.depth_to_space(y, 2, order=order)
            for y, order in zip(there, rearrange.ORDERS, strict=True)
        ]
        return there, [*back, rearrange.channel_shuffle(x, 2)]

    for dtype in (jnp.bfloat16, jnp.int8):
        x = np.zeros((0, 4, 4, 4), dtype)
        there, back = jax.jit(run)(x)
        assert {y.shape for y in there} == {(0, 2, 2, 16)}
        assert {y.shape for y in back} == {x.shape}
        assert {y.dtype for y in (*there, *back)} == {np.dtype(dtype)}


def test_wrong_arguments_are_named():
    x = counted((4, 6, 8))
    for op in (rearrange.space_to_depth, rearrange.depth_to_space):
        with pytest.raises(AssertionError, match=r"x is float32\[6, 8\]: give number\[..., H, W"):
            op(x[0], 2)
        with pytest.raises(AssertionError, match="x is bool"):
            op(x > 0, 2)
        for size in (0, 1.5, True):
            with pytest.raises(ValueError, match="block_size is "):
                op(x, size)
        with pytest.raises(ValueError, match="order is 'tf'"):
            op(x, 2, order="tf")
    with pytest.raises(AssertionError, match=r"x is .*: its height, 4, must be a multiple of 3"):
        rearrange.space_to_depth(x, 3)
    with pytest.raises(AssertionError, match=r"x is .*: its width, 6, must be a multiple of 4"):
        rearrange.space_to_depth(x, 4)
    with pytest.raises(AssertionError, match=r"its channels, 6, must be a multiple of 4"):
        rearrange.space_to_depth(x[..., :6], 2, order="darknet")
    with pytest.raises(AssertionError, match=r"its channels, 8, must be a multiple of 9"):
        rearrange.depth_to_space(x, 3)
    with pytest.raises(AssertionError, match=r"its channels, 8, must be a multiple of 16"):
        rearrange.depth_to_space(x, 2, order="darknet")
    with pytest.raises(AssertionError, match=r"x is .*: its channels, 8, must be a multiple of 3"):
        rearrange.channel_shuffle(x, 3)
    with pytest.raises(ValueError, match="groups is 0"):
        rearrange.channel_shuffle(x, 0)
    with pytest.raises(AssertionError, match=r"x is float32\[\]"):
        rearrange.channel_shuffle(np.float32(1), 1)


@pytest.mark.parity
def test_the_channel_first_order_is_torchs():
    torch = pytest.importorskip("torch")
    x = counted((2, 4, 6, 8))
    there = torch.tensor(x).permute(0, 3, 1, 2)
    for op, expected in (
        (rearrange.space_to_depth, torch.nn.functional.pixel_unshuffle),
        (rearrange.depth_to_space, torch.nn.functional.pixel_shuffle),
    ):
        np.testing.assert_array_equal(
            op(x, 2, order="channel_first"), expected(there, 2).permute(0, 2, 3, 1).numpy()
        )
    np.testing.assert_array_equal(
        rearrange.channel_shuffle(x, 4),
        torch.nn.functional.channel_shuffle(there, 4).permute(0, 2, 3, 1).numpy(),
    )
