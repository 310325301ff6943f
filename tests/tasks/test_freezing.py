"""Batch norms that do in training what they do in evaluation."""

import dataclasses

import jax
import numpy as np
import optax
import pytest
from flax import traverse_util

from jaxvision.core import ClassificationBatch, Inputs, Keys, OptionError
from jaxvision.models import create_model
from jaxvision.tasks import classification, with_frozen_statistics
from tests.marks import slow_but
from tests.models.variables import random_values
from tests.tasks.loop import train


def tiny_task(**fields):
    model = create_model("resnet20", num_classes=10, blocks=1, widths=(4, 8, 8), **fields)
    return classification(model, Inputs((8, 8), channels=1), class_names=10)


def batch_of(size):
    rng = np.random.default_rng(0)
    return ClassificationBatch(
        image=rng.integers(0, 256, (size, 8, 8, 1), np.uint8),
        label=rng.integers(0, 10, size).astype(np.int32),
        weight=np.ones(size, np.float32),
        mask=np.ones(size, bool),
    )


def trained(task, *, freeze=(), devices=4, steps=3):
    """(variables before, variables after some steps).

    Args:
      task: what to train.
      freeze: beginnings of the names of layers whose parameters stay.
      devices: how many.
      steps: likewise.
    """

    def labels(params):
        names = traverse_util.flatten_dict(params, sep="/")
        frozen = {name: "frozen" if name.startswith(freeze) else "free" for name in names}
        return traverse_util.unflatten_dict(frozen, sep="/")

    optimizer = optax.adamw(1e-3, weight_decay=0.1)
    if freeze:
        both = {"free": optimizer, "frozen": optax.set_to_zero()}
        optimizer = optax.multi_transform(both, labels)
    before = random_values(jax.eval_shape(task.init, jax.random.key(0)))
    batches = [batch_of(8)] * steps
    result = train(task, batches, devices, optimizer=optimizer, variables=before)
    return before, result.variables


def outputs_of(task, train):
    """(variables, logits, statistics after it) of a batch on one device."""
    variables = random_values(jax.eval_shape(task.init, jax.random.key(0)))
    keys = Keys(jax.random.split(jax.random.key(0), 4), jax.random.key(1))

    @jax.jit
    def run(variables, batches):
        def forward(batch):
            batch = jax.vmap(task.prepare)(batch)
            return task.forward(variables, batch, keys=keys, step=0, train=train)

        return jax.vmap(forward, axis_name="batch")(batches)

    outputs, statistics = run(variables, jax.tree.map(lambda x: x[None], batch_of(4)))
    kept = jax.device_get((outputs["logits"], statistics))
    logits, statistics = jax.tree.map(lambda x: x[0], kept)
    return variables, logits, statistics


@pytest.mark.slow
def test_frozen_parameters_and_statistics_stay_to_the_bit():
    frozen = ("conv1", "bn1", "layer1", "layer2")
    task = with_frozen_statistics(tiny_task(), ("bn1", "layer[12]*"))
    before, after = trained(task, freeze=frozen)
    equal = jax.tree.map(np.array_equal, before, after)
    for collection in ("params", "batch_stats"):
        for layer, values in equal[collection].items():
            stays = layer.startswith(frozen)
            assert set(values.values()) == {stays}, (collection, layer)


@pytest.mark.parametrize("pattern", slow_but(["bn1", "bn1/*", "*1/mean"], ["*1/mean"]))
def test_a_pattern_of_a_statistic_means_its_norm(pattern):
    before, _, statistics = outputs_of(with_frozen_statistics(tiny_task(), (pattern,)), train=True)
    equal = jax.tree.map(np.array_equal, before["batch_stats"], statistics["batch_stats"])
    assert equal["bn1"] == {"mean": True, "var": True}
    assert equal["layer2_0_bn2"] == {"mean": False, "var": False}


@pytest.mark.slow
def test_without_them_the_statistics_of_a_frozen_layer_move():
    before, after = trained(tiny_task(), freeze=("conv1", "bn1"))
    assert np.array_equal(before["params"]["bn1"]["scale"], after["params"]["bn1"]["scale"])
    assert not np.array_equal(
        before["batch_stats"]["bn1"]["mean"], after["batch_stats"]["bn1"]["mean"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("fields", [{}, {"remat": True}])
def test_all_norms_frozen_give_the_outputs_of_an_evaluation(fields):
    task = tiny_task(**fields)
    _, expected, _ = outputs_of(task, train=False)
    before, frozen, statistics = outputs_of(with_frozen_statistics(task, ("*",)), train=True)
    np.testing.assert_array_equal(frozen, expected)
    jax.tree.map(np.testing.assert_array_equal, statistics["batch_stats"], before["batch_stats"])
    _, free, _ = outputs_of(task, train=True)
    assert abs(free - expected).max() > 1e-3 * abs(expected).max()


def test_what_is_frozen_is_described():
    task = with_frozen_statistics(with_frozen_statistics(tiny_task(), ("bn1",)), ("layer1*",))
    forward, description = task.origin["forward"]
    assert forward is task.forward
    assert description["freeze_statistics"] == ["bn1", "layer1*"]
    mine = dataclasses.replace(tiny_task(), forward=lambda *arguments, **given: None)
    again = with_frozen_statistics(mine, ("bn1",))
    assert again.origin["forward"][0] is not again.forward, "it is the user's own"


def test_none_are_frozen_if_nothing_is_said():
    task = tiny_task()
    assert with_frozen_statistics(task, ()) is task


@pytest.mark.parametrize(("fields", "pattern"), [({}, "conv1"), ({"norm": "group_norm"}, "*")])
def test_a_pattern_that_matches_no_batch_norm(fields, pattern):
    with pytest.raises(OptionError, match=r"^freeze_statistics: .* matches nothing"):
        with_frozen_statistics(tiny_task(**fields), (pattern,))
