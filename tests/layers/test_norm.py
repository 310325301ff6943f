"""Norms: batch norm beside flax's; those within an example by hand, and alone as in a batch."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.layers import NORMS, BatchNorm, Norm, group_norm
from tests.models.variables import random_values
from tests.ops.compiled import Case, check_cases
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
    x = np.float32([[[[1, 1, 2, 2], [3, 3, 8, 8]]]])
    y, variables = jax.jit(Net(num_groups=2).init_with_output)(jax.random.key(0), x)
    np.testing.assert_allclose(y, [[[[-1, -1, -1, -1], [1, 1, 1, 1]]]], rtol=1e-4)
    assert variables.keys() == {"params"}
    assert variables["params"]["norm"].keys() == {"scale", "bias"}


def test_norms_equal_their_references():
    """Groups are as many as divide the channels."""
    cases = {}
    for channels, groups in ((64, 32), (24, 8), (7, 1)):
        cases[f"{groups} groups"] = Case(
            Net().apply,
            lambda variables, x, n=groups: reference.group_norm(
                x, **variables["params"]["norm"], groups=n
            ),
            (variables_of(channels), maps_of(channels)),
            rtol=1e-4,
            atol=1e-5,
        )
    for name in ("layer_norm", "instance_norm"):
        slow = getattr(reference, name)
        cases[name] = Case(
            Plain(NORMS[name]).apply,
            lambda variables, x, fn=slow: fn(x, **variables["params"]["norm"]),
            # A mean that is large beside the deviation.
            (variables_of(6), maps_of(6) + 100),
            rtol=1e-4,
            atol=1e-4,
        )
    check_cases(cases)


def test_neither_training_nor_the_batch_nor_devices_change_it():
    @jax.jit
    def run(variables, x):
        trained = Net(train=True, axis_name="batch").apply(variables, x)
        return Net().apply(variables, x), trained, Net().apply(variables, x[1:2])

    together, trained, alone = run(variables_of(8), maps_of(8, batch=3))
    np.testing.assert_array_equal(trained, together)
    np.testing.assert_allclose(alone, together[1:2], rtol=1e-5, atol=1e-6)


def test_half_precision_is_computed_in_single():
    x = (maps_of(8) + 100).astype(jnp.bfloat16)

    @jax.jit
    def run(variables, x):
        y = Net(dtype=jnp.bfloat16).apply(variables, x)
        return y, Net().apply(variables, x.astype(jnp.float32))

    y, expected = run(variables_of(8), x)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(np.float32), expected, rtol=0.01, atol=0.02)


class Plain(nn.Module):
    norm: Norm

    @nn.compact
    def __call__(self, x):
        return self.norm(x, name="norm", train=False, axis_name=None, dtype=None, param_dtype="f4")


@pytest.mark.parametrize("dtype", [None, jnp.bfloat16])
def test_batch_norm_does_as_flaxs(dtype):
    x = maps_of(6).astype(dtype or "f4")
    ours, theirs = BatchNorm(dtype=dtype), nn.BatchNorm(momentum=0.9, dtype=dtype)

    @jax.jit
    def init(key, x):
        return ours.init(key, x, train=True), theirs.init(key, x, use_running_average=False)

    variables, of_flax = init(jax.random.key(0), x)
    chex.assert_trees_all_equal(variables, of_flax)
    variables = random_values(jax.eval_shape(lambda: variables))

    @jax.jit
    def run(variables, x):
        results = []
        for train in (False, True):
            found = ours.apply(variables, x, train=train, mutable=["batch_stats"])
            mode = {"use_running_average": not train}
            results.append((found, theirs.apply(variables, x, **mode, mutable=["batch_stats"])))
        return results

    for found, wanted in jax.device_get(run(variables, x)):
        assert found[0].dtype == wanted[0].dtype
        chex.assert_trees_all_close(found, wanted, rtol=1e-2 if dtype else 1e-5, atol=1e-5)


def test_configs_can_name_them():
    assert NORMS["group_norm"] is group_norm
    of_images = {"group_norm", "instance_norm", "layer_norm"}
    assert NORMS.keys() == {"batch_norm", "frozen_batch_norm"} | of_images
