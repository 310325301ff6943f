"""Optimizers and schedules: what they do to parameters, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.cli.config import default_config
from jaxvision.core import InputError
from jaxvision.engine import make_optimizer

STEPS = 100


def config_of(**changes):
    config = default_config().optimizer
    for key, value in changes.items():
        group, _, name = key.rpartition("__")
        setattr(config.schedule if group else config, name, value)
    return config


def rates(**changes):
    optimizer = make_optimizer(config_of(**changes), steps=STEPS)
    return np.array([optimizer.schedule(step) for step in range(STEPS + 1)])


PARAMS = {"dense": {"kernel": jnp.full((2, 3), 2.0), "bias": jnp.full(3, 2.0)}}


def update(gradient, *, steps=1, losses=None, **changes):
    """Parameters after some steps with a constant gradient, and the rates used."""
    changes.setdefault("schedule__name", "constant")
    optimizer = make_optimizer(config_of(**changes), steps=STEPS)
    params, used = PARAMS, []
    state = optimizer.transformation.init(params)
    step = jax.jit(lambda *args, value: optimizer.transformation.update(*args, value=value))
    gradients = jax.tree.map(lambda p: jnp.full_like(p, gradient), params)
    for n in range(steps):
        loss = jnp.float32(1.0 if losses is None else losses[n])
        changed, state = step(gradients, state, params, value=loss)
        used.append(float(optimizer.learning_rate(state, n)))
        params = jax.tree.map(jnp.add, params, changed)
    return params["dense"], used


def test_constant():
    assert (rates(schedule__name="constant", learning_rate=0.3) == 0.3).all()


def test_step_decay():
    found = rates(schedule__name="step", learning_rate=1.0, schedule__milestones=(0.5, 0.75))
    np.testing.assert_allclose(found[[0, 49, 51, 74, 76, 100]], [1, 1, 0.1, 0.1, 0.01, 0.01], 1e-5)
    warm = rates(
        schedule__name="step",
        learning_rate=1.0,
        schedule__milestones=(0.5, 0.75),
        schedule__warmup=0.1,
    )
    np.testing.assert_allclose(warm[:11], np.arange(11) / 10, atol=1e-6)
    np.testing.assert_array_equal(warm[11:], found[11:])


def test_milestones_in_one_step_count_each():
    optimizer = make_optimizer(
        config_of(schedule__name="step", learning_rate=1.0, schedule__milestones=(0.5, 0.6)),
        steps=3,
    )
    found = [float(optimizer.schedule(step)) for step in (0, 3)]
    np.testing.assert_allclose(found, [1, 0.01], rtol=1e-5)


@pytest.mark.parametrize(("warmup", "steps"), [(0.999, 100), (0.6, 1), (0.6, 2)])
def test_a_warm_up_of_all_steps_but_the_last(warmup, steps):
    config = config_of(schedule__name="cosine", learning_rate=1.0, schedule__warmup=warmup)
    optimizer = make_optimizer(config, steps=steps)
    found = [float(optimizer.schedule(step)) for step in range(steps)]
    assert found[-1] == 1
    assert np.isfinite(found).all()


def test_cosine_with_warm_up():
    found = rates(schedule__name="cosine", learning_rate=1.0, schedule__warmup=0.1)
    np.testing.assert_allclose(found[:11], np.arange(11) / 10, atol=1e-6)
    expected = 0.5 + 0.5 * np.cos(np.pi * np.arange(91) / 90)
    np.testing.assert_allclose(found[10:], expected, atol=1e-6)


def test_one_cycle():
    found = rates(schedule__name="one_cycle", learning_rate=1.0, schedule__warmup=0.3)
    assert found.argmax() == 30
    np.testing.assert_allclose(found[[0, 30]], [1 / 25, 1], rtol=1e-5)
    assert (np.diff(found[:31]) > 0).all()
    assert (np.diff(found[30:]) < 0).all()
    assert found[-1] < 1e-4


def test_reduce_on_plateau():
    """Windows of 2 steps; the second window without a better loss cuts the rate."""
    losses = [4, 4, 2, 2, 3, 3, 2, 2, 1, 1, 1, 1]
    _, used = update(
        1.0,
        steps=12,
        losses=losses,
        learning_rate=1.0,
        momentum=0.0,
        schedule__name="plateau",
        schedule__window=0.02,
        schedule__patience=2,
        schedule__factor=0.1,
    )
    np.testing.assert_allclose(used, [1] * 7 + [0.1] * 5, rtol=1e-6)


def test_sgd_with_momentum_and_nesterov():
    """v <- 0.9 v + g; plain moves by v, Nesterov by 0.9 v + g (Sutskever et al. 2013)."""
    plain, _ = update(1.0, steps=2, learning_rate=0.1)
    np.testing.assert_allclose(plain["bias"], 2 - 0.1 * (1 + 1.9), rtol=1e-6)
    nesterov, _ = update(1.0, steps=2, learning_rate=0.1, nesterov=True)
    np.testing.assert_allclose(nesterov["bias"], 2 - 0.1 * (1.9 + 2.71), rtol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_weight_decay_skips_biases(name):
    decayed, _ = update(0.0, name=name, learning_rate=0.1, weight_decay=0.5)
    assert (decayed["bias"] == 2).all()
    assert (decayed["kernel"] < 2).all()


def test_weight_decay_is_coupled_for_sgd_and_decoupled_for_adamw():
    sgd, _ = update(1.0, learning_rate=0.1, weight_decay=0.5)
    np.testing.assert_allclose(sgd["kernel"], 2 - 0.1 * (1 + 0.5 * 2), rtol=1e-6)
    # Adam's first step is the rate itself, whatever the gradient.
    adamw, _ = update(1.0, name="adamw", learning_rate=0.1, weight_decay=0.5)
    np.testing.assert_allclose(adamw["kernel"], 2 - 0.1 - 0.1 * 0.5 * 2, rtol=1e-5)
    adam, _ = update(1.0, name="adam", learning_rate=0.1, weight_decay=0.5)
    np.testing.assert_allclose(adam["kernel"], 2 - 0.1, rtol=1e-5)


def test_clipping_by_the_global_norm():
    clipped, _ = update(4.0, learning_rate=1.0, momentum=0.0, clip_norm=1.0)
    moved = np.concatenate([np.ravel(2 - p) for p in clipped.values()])
    np.testing.assert_allclose(np.linalg.norm(moved), 1, rtol=1e-5)
    small, _ = update(0.01, learning_rate=1.0, momentum=0.0, clip_norm=1.0)
    np.testing.assert_allclose(small["bias"], 2 - 0.01, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "adamm"}, "unknown optimizer 'adamm': did you mean 'adam'"),
        ({"schedule__name": "cosin"}, "unknown schedule 'cosin': did you mean 'cosine'"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0: give more than 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"schedule__warmup": 1.0}, "warmup is 1.0: give at least 0 and less than 1"),
        ({"rates": (("fc", "0.1"),)}, r"rates has \('fc', '0.1'\): give pairs of a pattern and a"),
    ],
)
def test_wrong_settings(changes, message):
    with pytest.raises(InputError, match=message):
        make_optimizer(config_of(**changes), steps=STEPS)
