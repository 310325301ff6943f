"""Norms: batch norm beside flax's; those within an example by hand, and alone as in a batch."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.layers import NORMS, BatchNorm, Norm, group_norm
from jaxvision.testing import check_op
from tests.models.variables import random_values
from tests.reference import layers as reference


class Net(nn.Module):
    train: bool = False
    axis_name: str | None = None
    dtype: jnp.dtype | None = None
    num_groups: int = 32

    @nn.compact
    def __call__(self, x):
        return group_norm(
            x,
            name="norm",
            train=self.train,
            axis_name=self.axis_name,
            dtype=self.dtype,
            num_groups=self.num_groups,
        )


def variables_of(channels):
    rng = np.random.default_rng(1)
    values = {"scale": rng.uniform(0.5, 1.5, channels), "bias": rng.normal(size=channels)}
    return {"params": {"norm": jax.tree.map(np.float32, values)}}


def maps_of(channels, batch=2):
    rng = np.random.default_rng(0)
    return rng.normal(2, 3, size=(batch, 4, 5, channels)).astype(np.float32)


def test_a_group_by_hand():
    # One example of two places and two groups: mean 2 and deviation 1, mean 5 and deviation 3.
    x = jnp.float32([[[[1, 1, 2, 2], [3, 3, 8, 8]]]])
    y, variables = Net(num_groups=2).init_with_output(jax.random.key(0), x)
    np.testing.assert_allclose(y, [[[[-1, -1, -1, -1], [1, 1, 1, 1]]]], rtol=1e-4)
    assert variables.keys() == {"params"}
    assert variables["params"]["norm"].keys() == {"scale", "bias"}


@pytest.mark.parametrize(("channels", "groups"), [(64, 32), (24, 8), (7, 1)])
def test_it_equals_the_reference_with_as_many_groups_as_divide_the_channels(channels, groups):
    check_op(
        Net().apply,
        lambda variables, x: reference.group_norm(x, **variables["params"]["norm"], groups=groups),
        variables_of(channels),
        maps_of(channels),
        rtol=1e-4,
        atol=1e-5,
        transforms=("jit",),
    )


def test_neither_training_nor_the_batch_nor_devices_change_it():
    variables, x = variables_of(8), maps_of(8, batch=3)
    together = Net().apply(variables, x)
    np.testing.assert_array_equal(Net(train=True, axis_name="batch").apply(variables, x), together)
    np.testing.assert_allclose(Net().apply(variables, x[1:2]), together[1:2], rtol=1e-5, atol=1e-6)


def test_half_precision_is_computed_in_single():
    x = maps_of(8) + 100
    run = functools.partial(Net(dtype=jnp.bfloat16).apply, variables_of(8))
    y = run(jnp.bfloat16(x))
    assert y.dtype == jnp.bfloat16
    expected = Net().apply(variables_of(8), jnp.bfloat16(x).astype(jnp.float32))
    np.testing.assert_allclose(y.astype(jnp.float32), expected, rtol=0.01, atol=0.02)


class Plain(nn.Module):
    norm: Norm

    @nn.compact
    def __call__(self, x):
        return self.norm(x, name="norm", train=False, axis_name=None, dtype=None, param_dtype="f4")


@pytest.mark.parametrize("name", ["layer_norm", "instance_norm"])
def test_the_other_norms_equal_the_reference(name):
    variables, x = variables_of(6), maps_of(6) + 100  # a mean that is large beside the deviation
    found = jax.jit(Plain(NORMS[name]).apply)(variables, x)
    expected = getattr(reference, name)(x, **variables["params"]["norm"])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [None, jnp.bfloat16])
@pytest.mark.parametrize("train", [False, True])
def test_batch_norm_does_as_flaxs(train, dtype):
    x = maps_of(6).astype(dtype)
    ours, theirs = BatchNorm(dtype=dtype), nn.BatchNorm(momentum=0.9, dtype=dtype)
    variables = ours.init(jax.random.key(0), x, train=train)
    chex.assert_trees_all_equal(
        variables, theirs.init(jax.random.key(0), x, use_running_average=not train)
    )
    variables = random_values(jax.eval_shape(lambda: variables))
    run = functools.partial(ours.apply, variables, x, train=train, mutable=["batch_stats"])
    wanted = theirs.apply(variables, x, use_running_average=not train, mutable=["batch_stats"])
    found = run()
    assert found[0].dtype == wanted[0].dtype
    chex.assert_trees_all_close(found, wanted, rtol=1e-2 if dtype else 1e-5, atol=1e-5)


def test_configs_can_name_them():
    assert NORMS["group_norm"] is group_norm
    assert NORMS.keys() == {"batch_norm", "group_norm", "instance_norm", "layer_norm"}
