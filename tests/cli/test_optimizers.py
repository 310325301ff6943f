"""Optimizers and schedules: what they do to parameters, by hand."""

import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvision.cli.optimizers import (
    HeadWarmupOptions,
    OptimizerOptions,
    ScheduleOptions,
    make_phases,
)
from jaxvision.core import InputError, OptionError
from jaxvision.engine.phases import stage_after, stages_of

STEPS = 100


def options_of(**changes):
    of_schedule = {
        name.removeprefix("schedule__"): changes.pop(name)
        for name in list(changes)
        if name.startswith("schedule__")
    }
    return OptimizerOptions(**changes, schedule=ScheduleOptions(**of_schedule))


def phase_of(steps=STEPS, **changes):
    [phase] = make_phases(options_of(**changes), steps)
    return phase


def rates(**changes):
    phase = phase_of(**changes)
    return np.array([phase.schedule(step) for step in range(STEPS + 1)])


PARAMS = {"dense": {"kernel": jnp.full((2, 3), 2.0), "bias": jnp.full(3, 2.0)}}


def update(gradient, *, steps=1, losses=None, **changes):
    """Parameters after some steps with a constant gradient, and the rates used."""
    changes.setdefault("schedule__name", "constant")
    phase = phase_of(**changes)
    optimizer = optax.with_extra_args_support(phase.optimizer)
    params, used = PARAMS, []
    state = phase.init(params)
    step = jax.jit(lambda *args, value: optimizer.update(*args, value=value))
    gradients = jax.tree.map(lambda p: jnp.full_like(p, gradient), params)
    for n in range(steps):
        loss = jnp.float32(1.0 if losses is None else losses[n])
        changed, state = step(gradients, state, params, value=loss)
        used.append(float(phase.learning_rate(state, n)))
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
    milestones = {"schedule__milestones": (0.5, 0.6)}
    phase = phase_of(3, schedule__name="step", learning_rate=1.0, **milestones)
    found = [float(phase.schedule(step)) for step in (0, 3)]
    np.testing.assert_allclose(found, [1, 0.01], rtol=1e-5)


@pytest.mark.parametrize(("warmup", "steps"), [(0.999, 100), (0.6, 1), (0.6, 2)])
def test_a_warm_up_of_all_steps_but_the_last(warmup, steps):
    phase = phase_of(steps, schedule__name="cosine", learning_rate=1.0, schedule__warmup=warmup)
    found = [float(phase.schedule(step)) for step in range(steps)]
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


def test_polynomial():
    found = rates(schedule__name="polynomial", learning_rate=0.5)
    np.testing.assert_allclose(found, 0.5 * (1 - np.arange(101) / 100) ** 0.9, atol=1e-6)
    more = {"schedule__warmup": 0.2, "schedule__power": 2.0}
    found = rates(schedule__name="polynomial", learning_rate=1.0, **more)
    np.testing.assert_allclose(found[:21], np.arange(21) / 20, atol=1e-6)
    np.testing.assert_allclose(found[20:], (1 - np.arange(81) / 80) ** 2, atol=1e-6)


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
        ({"momentum": 1.0}, "^momentum is 1.0: give at least 0 and less than 1"),
        ({"clip_norm": -1.0}, "^clip_norm is -1.0: give at least 0"),
        ({"schedule__milestones": (0.5, 0.5)}, r"^milestones \(0.5, 0.5\) names one twice"),
        (
            {"lr_multipliers": (("fc", "0.1"),)},
            r"^lr_multipliers has \('fc', '0.1'\): give pairs of a pattern and a",
        ),
        ({"lr_multipliers": (("fc", 0.0),)}, "^lr_multipliers of 'fc' is 0.0: give more than 0"),
    ],
)
def test_wrong_settings(changes, message):
    with pytest.raises(InputError, match=message):
        options_of(**changes)


def test_the_warm_up_of_the_head():
    options = options_of(learning_rate=0.01, lr_multipliers=[["cells", 0.5]])
    warmup = HeadWarmupOptions(4, ("cells", "refine"), 0.05)
    phases = make_phases(options, 12, head_warmup=warmup, freeze=["bn"])
    head, rest = phases
    assert [stage.start for stage in stages_of(phases, 12)] == [0, 4]
    assert stage_after(stages_of(phases, 12), 4).phase is head
    assert (head.only, head.freeze) == (("cells", "refine"), ("bn",))
    assert (rest.only, rest.freeze) == ((), ("bn",))
    # Multipliers are of the steps in which all parameters are trained.
    assert (head.lr_multipliers, rest.lr_multipliers) == ((), (("cells", 0.5),))
    # Each has the whole schedule for its own steps.
    assert [float(head.schedule(n)) for n in (0, 2)] == pytest.approx([0.05, 0.025])
    assert [float(rest.schedule(n)) for n in (0, 4)] == pytest.approx([0.01, 0.005])
    [head, _] = make_phases(options, 12, head_warmup=HeadWarmupOptions(4, ("cells",)))
    assert float(head.schedule(0)) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 12, "only": ("fc",)}, "^steps is 12: give at least 0 and less than 12"),
        ({"steps": 4}, "^only is empty: name the parameters that are trained first"),
        ({"steps": 4, "only": ("fc",), "learning_rate": 0.0}, "^learning_rate is 0.0: give more"),
        ({"steps": -1}, "^steps is -1"),
    ],
)
def test_a_warm_up_that_cannot_be(changes, message):
    with pytest.raises(OptionError, match=message):
        make_phases(OptimizerOptions(), 12, head_warmup=HeadWarmupOptions(**changes))


@pytest.mark.parametrize("options", [OptimizerOptions, ScheduleOptions, HeadWarmupOptions])
def test_every_option_is_documented(options):
    text = inspect.getdoc(options).partition("Attributes:")[2].partition("Raises:")[0]
    named = [line.strip().partition(":")[0] for line in text.splitlines() if line[2:3] > " "]
    assert named == [field.name for field in dataclasses.fields(options)]
