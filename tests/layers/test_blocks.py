"""Squeeze-and-excitation, dropped paths, blocks computed twice, channels in eights."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.layers import drop_path, make_divisible, run_block, squeeze_excite
from jaxvision.testing import check_op
from tests.models.variables import random_values
from tests.reference import layers as reference


@pytest.mark.parametrize(
    ("channels", "divisor", "expected"),
    [
        (1, 8, 8),
        (16, 8, 16),
        (11.9, 8, 16),
        (20, 8, 24),
        (19.9, 8, 24),
        (17.7, 8, 16),
        (33, 16, 32),
    ],
)
def test_channels_are_a_multiple_near_them_and_not_much_less(channels, divisor, expected):
    found = make_divisible(channels, divisor)
    assert found == expected
    assert found % divisor == 0
    assert found >= 0.9 * channels


class Squeezed(nn.Module):
    @nn.compact
    def __call__(self, x):
        return squeeze_excite(x, 3, name="se", act=nn.relu, gate=nn.sigmoid)


def test_squeeze_and_excitation_equals_the_reference():
    rng = np.random.default_rng(0)
    shapes = {"se_fc1": (1, 1, 6, 3), "se_fc2": (1, 1, 3, 6)}
    params = {
        name: {
            "kernel": rng.normal(size=shape).astype(np.float32),
            "bias": rng.normal(size=shape[-1]).astype(np.float32),
        }
        for name, shape in shapes.items()
    }
    x = rng.normal(size=(2, 4, 5, 6)).astype(np.float32)
    check_op(
        Squeezed().apply,
        lambda variables, x: reference.squeeze_excite(x, **variables["params"]),
        {"params": params},
        x,
        rtol=1e-5,
        atol=1e-5,
        transforms=("jit",),
    )


class Dropped(nn.Module):
    rate: float

    @nn.compact
    def __call__(self, x, *, train):
        return drop_path(x, self.rate, train=train)


def test_a_dropped_path_is_dropped_for_whole_examples():
    x = np.random.default_rng(0).uniform(1, 2, (400, 2, 3, 4)).astype(np.float32)

    @jax.jit
    def run(x):
        rngs = {"dropout": jax.random.key(0)}
        return (
            Dropped(0.25).apply({}, x, train=True, rngs=rngs),
            Dropped(0.25).apply({}, x, train=False),
            Dropped(0.0).apply({}, x, train=True),
        )

    y, *unchanged = jax.device_get(run(x))
    kept = y.reshape(len(y), -1).any(axis=1)
    np.testing.assert_allclose(y[kept], x[kept] / 0.75, rtol=1e-6)
    assert not y[~kept].any()
    assert 0.65 < kept.mean() < 0.85
    for same in unchanged:
        np.testing.assert_array_equal(same, x)


class Blocks(nn.Module):
    remat: bool

    @nn.compact
    def __call__(self, x, *, train):
        def block(x, name):
            y = nn.Dense(x.shape[-1], name=f"{name}_dense")(x)
            y = nn.BatchNorm(use_running_average=not train, name=f"{name}_norm")(y)
            return x + nn.Dropout(0.5, deterministic=not train)(jnp.tanh(y))

        for name in ("first", "second"):
            x = run_block(self, lambda x, name=name: block(x, name), x)
        return x


def test_a_block_computed_twice_is_the_same_block():
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    shapes = jax.eval_shape(lambda: Blocks(remat=False).init(jax.random.key(0), x, train=False))
    variables = random_values(shapes)

    def loss(params, remat):
        now, rngs = {**variables, "params": params}, {"dropout": jax.random.key(1)}
        model = Blocks(remat=remat)
        y, state = model.apply(now, x, train=True, mutable=["batch_stats"], rngs=rngs)
        return jnp.square(y).sum(), state

    of_each = jax.value_and_grad(loss, has_aux=True)
    traced = jax.jit(lambda params: (of_each(params, False), of_each(params, True))).trace(
        variables["params"]
    )
    assert str(traced.jaxpr).count("remat") >= 2
    plain, again = traced.lower().compile()(variables["params"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), plain, again)
