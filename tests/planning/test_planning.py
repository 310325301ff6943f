"""Plans of trainings, for CPU devices; those for GPUs and TPUs are long tests."""

import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax._src import xla_bridge
from jax.experimental import topologies

import jaxvision
from jaxvision import planning, tasks
from jaxvision.core import InputError, OptionError
from jaxvision.data import ToClassification
from jaxvision.models import summarize
from jaxvision.planning import Memory, StepPlan, Target, parse_target
from jaxvision.planning.planning import _largest

SIDE = 32


@pytest.fixture(scope="module")
def lenet():
    inputs = jaxvision.Inputs((SIDE, SIDE), channels=1)
    model = jaxvision.create_model("lenet5", num_classes=10)
    task = tasks.classification(model, inputs, class_names=10)
    record = {"image": np.zeros((SIDE, SIDE, 1), np.uint8), "label": 0}
    example = ToClassification(inputs, 10)(record, "")
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct((8, *np.shape(x)), x.dtype), example)
    return model, task, batch


def test_a_plan_from_python(lenet):
    model, task, batch = lenet
    lines = []
    found = jaxvision.plan(
        task, optax.sgd(0.1), batch, eval_batch=batch, target="cpu:2", log=lines.append
    )
    assert len(lines) == 2
    macs = summarize(model, (SIDE, SIDE, 1)).macs
    (forward,) = found.evaluation.flops.values()
    assert forward == 2 * 4 * macs
    (train,) = found.train.flops.values()
    assert 2.5 * forward < train < 3 * forward  # no gradient of the images
    parameters = 4 * 61_706
    assert found.train.memory.arguments >= parameters + 4 * SIDE * SIDE
    collectives = {x.kind: x.nbytes for x in found.train.cost.collectives}
    assert parameters <= collectives["all-reduce"] < parameters + 100
    assert found.train.seconds == {}
    assert found.largest_batch is None
    text = planning.describe(found)
    assert "cpu:2: 2 x CPU; a batch of 8, 4 a device" in text
    assert "all-reduce" in text


@pytest.mark.parametrize(
    ("text", "sides", "devices"),
    [
        ("gpu-h200:8", (1, 8), 8),
        ("gpu-h200:4x8", (4, 8), 32),
        ("gpu-h200", (1, 1), 1),
        ("tpu-v5e:4x4", (4, 4), 16),
        ("tpu-v5p:2x2x1", (2, 2, 1), 4),
        ("cpu:4", (4,), 4),
    ],
)
def test_targets(text, sides, devices):
    target = parse_target(text)
    assert (target.sides, target.devices) == (sides, devices)
    assert parse_target(str(target)) == target


@pytest.mark.parametrize("text", ["gpu-h200:", "gpu-h200:0", "gpu-h200:1x2x3", "cpu:x", "tpu", ""])
def test_wrong_targets(text):
    if text == "gpu-h200:":  # no size is one device
        assert parse_target(text).devices == 1
        return
    with pytest.raises(OptionError, match="target is"):
        parse_target(text)


def test_collectives_over_hosts_are_slower():
    assert Target("gpu-h200", (4, 8)).link < Target("gpu-h200", (1, 8)).link


@pytest.mark.parametrize(("target", "extra"), [("gpu-h200", "plan-cuda"), ("tpu-v5e", "plan-tpu")])
def test_what_compiles_is_not_installed(monkeypatch, target, extra):
    monkeypatch.setattr(planning.topology.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=rf"pip install 'jaxvision\[{extra}\]'"):
        planning.devices_of(parse_target(target))


def test_the_private_calls_of_jax_are_there():
    """What planning/topology.py relies on; if this fails, that file has to change."""
    assert not inspect.signature(xla_bridge._discover_and_register_pjrt_plugins).parameters
    names = list(inspect.signature(topologies.get_topology_desc).parameters)
    assert names[:2] == ["topology_name", "platform"]


def step_of(batch_size, memory, available):
    dtypes = {"convolutions": {}, "matrix products": {}}
    cost = planning.Cost(dict.fromkeys(planning.KINDS, 0), (), dtypes, 0, 0, 0, 0, ())
    return StepPlan(batch_size, 0.0, Memory(memory, 0, 0, 0, available), {}, cost, {})


@pytest.mark.parametrize("available", [1000, 5000, 100_000])
@pytest.mark.parametrize("memory", [lambda b: 300 + 50 * b, lambda b: 200 + 40 * b + b * b // 16])
def test_the_largest_batch_fits(available, memory):
    tried = []

    def training(size):
        tried.append(size)
        return step_of(size, memory(size // 2), available)

    target = Target("gpu-h200", (1, 2))
    found = _largest(training, training(16), target)
    best = max((b for b in range(3000) if memory(b) <= available), default=0)
    assert found <= 2 * best
    assert found == 0 or found in tried
    assert found >= 2 * 0.7 * best - 16
    assert len(tried) <= 5


def test_no_batch_fits():
    def training(size):
        return step_of(size, 10**6, 1000)

    assert _largest(training, training(4), Target("gpu-h200", (1, 2))) == 0


def test_what_does_not_fit_says_so():
    found = planning.Plan(parse_target("gpu-h200:2"), step_of(8, 2000, 1000))
    assert not found.train.memory.fits
    assert "too much" in planning.describe(found)


def test_the_phase_that_is_planned_freezes_what_the_task_freezes(lenet):
    _, task, batch = lenet
    frozen = dataclasses.replace(task, freeze=("c1",))
    bytes_of = []
    for one in (task, frozen):
        found = jaxvision.plan(one, optax.sgd(0.1), batch, target="cpu:2")
        bytes_of.append(sum(x.nbytes for x in found.train.cost.collectives))
    layer = jax.eval_shape(task.init, jax.random.key(0))["params"]["c1"]
    size = sum(x.size * jnp.dtype(x.dtype).itemsize for x in jax.tree.leaves(layer))
    assert bytes_of[0] - bytes_of[1] == size


def test_parts_of_the_batch_and_pieces_of_the_state(lenet):
    _, task, batch = lenet
    how = {"target": "cpu:2", "largest_batch": False}
    whole = jaxvision.plan(task, optax.adam(1e-3), batch, **how).train
    parts = jaxvision.plan(task, optax.adam(1e-3), batch, accumulate=4, **how).train
    pieces = jaxvision.plan(task, optax.adam(1e-3), batch, shard_state=True, **how).train
    assert parts.memory.temporaries < whole.memory.temporaries
    # Adam's two moments, nearly all of which are cut in two.
    saved = whole.memory.arguments - pieces.memory.arguments
    assert 0.9 * 4 * 61_706 < saved <= 4 * 61_706
    assert "all-gather" in {x.kind for x in pieces.cost.collectives}
