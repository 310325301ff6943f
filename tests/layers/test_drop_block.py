"""DropBlock: which pixels are dropped, and what makes up for it."""

import jax
import numpy as np
import pytest

from jaxvision.layers import DropBlock

SHAPE = (40, 12, 10, 3)


def dropped(x, rate=0.2, size=3, seed=0):
    @jax.jit
    def run(x, key):
        return DropBlock(rate, size).apply({}, x, train=True, rngs={"dropout": key})

    return jax.device_get(run(x, jax.random.key(seed)))


def test_what_is_dropped_are_whole_blocks_and_the_rest_makes_up_for_it():
    x = np.random.default_rng(0).uniform(1, 2, SHAPE).astype("f4")
    y = dropped(x)
    kept = y != 0
    assert 0.1 < 1 - kept.mean() < 0.22, "blocks overlap, so that it is less than the rate"
    # Every dropped pixel is in a block of dropped ones.
    corners = np.lib.stride_tricks.sliding_window_view(~kept, (3, 3), axis=(1, 2)).all((-1, -2))
    covered = np.zeros(SHAPE, bool)
    for row in range(3):
        for column in range(3):
            covered[:, row : row + 10, column : column + 8] |= corners
    np.testing.assert_array_equal(covered, ~kept)
    share = kept.mean(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(y, np.where(kept, x / share, 0), rtol=1e-5)
    assert (kept != kept[:, :, :, :1]).any(), "each channel has its own"


def test_a_block_is_no_larger_than_the_map_and_all_may_be_dropped():
    x = np.ones((200, 2, 4, 1), "f4")
    kept = dropped(x, rate=0.9, size=7) != 0
    # Blocks of 2 x 2, at three places: alone, together, or none.
    rows = {"".join("01"[x] for x in row) for row in kept[:, 0, :, 0].tolist()}
    assert rows == {"1111", "0011", "1001", "1100", "0001", "1000", "0000"}
    np.testing.assert_array_equal(kept[:, 0], kept[:, 1])
    assert not kept.any(axis=(1, 2, 3)).all()


def test_nothing_is_dropped_without_training_or_a_rate():
    x = np.ones(SHAPE, "f4")

    @jax.jit
    def run(x):
        return DropBlock(0.5).apply({}, x, train=False), DropBlock(0.0).apply({}, x, train=True)

    for same in run(x):
        np.testing.assert_array_equal(same, x)


@pytest.mark.parametrize(("options", "message"), [((1.0,), "rate is 1"), ((0.1, 0), "size is 0")])
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DropBlock(*options).apply({}, np.ones((1, 2, 2, 1)), train=False)
