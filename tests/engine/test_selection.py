"""What is frozen stays as it is and costs nothing; rates by name; a head that trains first; means
of the weights."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvision.cli.config import default_config
from jaxvision.core import ClassificationBatch, InputError
from jaxvision.engine import (
    Criterion,
    Optimizer,
    Parallel,
    Run,
    Selection,
    abstract_state,
    fit,
    init_state,
    make_evaluate,
    make_optimizer,
    make_optimizers,
    make_update,
    optimizer_after,
    state_digest,
)
from jaxvision.tasks import classification
from tests.engine.box_task import box_batches, box_task
from tests.engine.stream import Breaking, InterruptedRunError, Stream

PARAMS = {
    "conv1": {"kernel": jnp.ones((3, 3, 1, 4))},
    "layer1": {"conv": {"kernel": jnp.ones((3, 3, 4, 4)), "bias": jnp.ones(4)}},
    "fc": {"kernel": jnp.ones((4, 2)), "bias": jnp.ones(2)},
}
BATCHES = box_batches(5, 8)
VALIDATION = [batch.replace(partners=None) for batch in box_batches(2, 8, seed=1)]


def settings(**changes):
    config = default_config().optimizer
    config.schedule.name = "constant"
    config.update(changes)
    return config


def run_config(**changes):
    config = default_config()
    config.steps = 12
    config.optimizer.learning_rate = 0.01
    config.update_from_flattened_dict(changes)
    return config


def train(task, optimizer, batches, devices=1):
    parallel = Parallel("pmap", jax.devices()[:devices])
    update = make_update(task, optimizer, seed=0, parallel=parallel)
    state = parallel.replicate(init_state(task, optimizer, 0))
    for batch in batches:
        state, record = update(state, parallel.shard(batch))
    return jax.device_get(state), jax.device_get(record)


def same(one, other):
    return jax.tree.map(np.array_equal, one, other)


def test_all_train_unless_something_is_said():
    trained, frozen = Selection().split(PARAMS)
    assert trained is PARAMS
    assert frozen == {}
    assert Selection().describe(PARAMS) == "all 194 parameters train"


def test_only_and_freeze():
    trained, frozen = Selection(freeze=("conv1", "layer1/*/bias")).split(PARAMS)
    assert jax.tree.map(jnp.shape, trained, is_leaf=lambda x: hasattr(x, "shape")) == {
        "layer1": {"conv": {"kernel": (3, 3, 4, 4)}},
        "fc": {"kernel": (4, 2), "bias": (2,)},
    }
    assert frozen.keys() == {"conv1", "layer1"}
    trained, frozen = Selection(only=("layer1", "fc"), freeze=("fc/bias",)).split(PARAMS)
    assert trained.keys() == {"layer1", "fc"}
    assert trained["fc"].keys() == {"kernel"}
    said = Selection(only=("fc",)).describe(PARAMS)
    assert said == "10 of 194 parameters train: fc"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"freeze": ("cnv1",)}, "config.freeze: 'cnv1' matches nothing"),
        ({"only": ("head",)}, "config.head_first.train: 'head' matches nothing"),
        ({"rates": (("head", 0.1),)}, "config.optimizer.rates: 'head' matches nothing"),
        ({"freeze": ("*",)}, "leaves nothing to train"),
        ({"only": ("fc",), "freeze": ("fc",)}, "leaves nothing to train"),
    ],
)
def test_patterns_that_do_not_fit(fields, message):
    with pytest.raises(InputError, match=message):
        Selection(**fields).split(PARAMS)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_what_is_frozen_stays_to_the_bit_and_has_no_state(name):
    task = box_task()
    optimizer = make_optimizer(
        settings(name=name, learning_rate=0.01, weight_decay=0.1, ema_decay=0.9),
        steps=5,
        freeze=("Conv_0", "bn/scale"),
    )
    state, _ = train(task, optimizer, BATCHES, devices=4)
    before = jax.device_get(init_state(task, optimizer, 0))
    for params in (state.params, state.average["params"]):
        equal = same(params, before.params)
        assert equal["Conv_0"] == {"kernel": True, "bias": True}
        assert equal["bn"] == {"scale": True, "bias": False}
        assert equal["cells"] == {"kernel": False, "bias": False}
    moments = {"sgd": 1, "adam": 2, "adamw": 2}[name]
    trained = sum(x.size for x in jax.tree.leaves(state.params)) - 8 * 8 * 3 * 8 - 8 - 8
    sizes = [x.size for x in jax.tree.leaves(state.opt_state)]
    assert sum(size for size in sizes if size > 1) == moments * trained


def test_the_rest_trains_as_if_the_frozen_part_were_no_parameter():
    """With everything else equal, the first step of what trains is that of a whole training."""
    config = settings(learning_rate=0.01)
    whole, _ = train(box_task(), make_optimizer(config, steps=5), BATCHES[:1])
    part, record = train(
        box_task(), make_optimizer(config, steps=5, freeze=("Conv_0",)), BATCHES[:1]
    )
    for name in ("bn", "cells", "refine"):
        for one, other in zip(
            jax.tree.leaves(part.params[name]), jax.tree.leaves(whole.params[name]), strict=True
        ):
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)
    assert record["gradient_norm"] > 0


def flops(freeze):
    config = default_config()
    config.model.name = "resnet20"
    config.data.image_size = 16
    task = classification(config)
    optimizer = make_optimizer(settings(), steps=5, freeze=freeze)
    parallel = Parallel("shard_map", jax.devices()[:1])
    update = make_update(task, optimizer, seed=0, parallel=parallel)
    state = abstract_state(task, optimizer)
    batch = ClassificationBatch(
        image=np.zeros((8, 16, 16, 1), np.uint8),
        label=np.zeros(8, np.int32),
        weight=np.ones(8, np.float32),
        mask=np.ones(8, bool),
    )
    return update.lower(state, batch).compile().cost_analysis()["flops"]


@pytest.mark.slow
def test_a_frozen_prefix_costs_no_gradient():
    whole = flops(())
    prefix = flops(("conv1", "bn1", "layer[12]*"))
    head = flops(("conv1", "bn1", "layer*"))
    # Of a convolution, the gradients by input and by kernel cost as much as itself each.
    assert head < 0.4 * whole
    assert head < prefix < 0.75 * whole


def test_rates_by_name():
    """The factor of the first pattern that matches multiplies what a step changes."""
    rates = (("cells/bias", 0.5), ("cells", 0.25), ("bn", 10.0))
    for changes in ({"name": "sgd", "weight_decay": 0.1}, {"name": "adamw", "weight_decay": 0.1}):
        config = settings(learning_rate=1e-3, **changes)
        before = jax.device_get(init_state(box_task(), make_optimizer(config, steps=5), 0)).params
        plain, _ = train(box_task(), make_optimizer(config, steps=5), BATCHES[:1])
        config.rates = rates
        scaled, _ = train(box_task(), make_optimizer(config, steps=5), BATCHES[:1])
        change = jax.tree.map(np.subtract, plain.params, before)
        found = jax.tree.map(np.subtract, scaled.params, before)
        factors = {"cells": {"bias": 0.5, "kernel": 0.25}, "bn": {"scale": 10.0, "bias": 10.0}}
        for layer, values in change.items():
            for name, x in values.items():
                factor = factors.get(layer, {}).get(name, 1.0)
                np.testing.assert_allclose(found[layer][name], factor * x, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("rates", [("bn", 0.1), (("bn",),), ((0.1, "bn"),), (("bn", 0.0),)])
def test_rates_that_are_none(rates):
    with pytest.raises(InputError, match=r"config\.optimizer\.rates"):
        make_optimizer(settings(rates=rates), steps=5)


def test_the_head_first():
    config = run_config(**{"head_first.steps": 4, "head_first.train": ("cells", "refine")})
    config.head_first.learning_rate = 0.05
    config.optimizer.schedule.name = "cosine"
    head, rest = make_optimizers(config)
    assert (head.start, rest.start) == (0, 4)
    assert [optimizer_after((head, rest), step) is head for step in (0, 1, 4, 5, 12)] == [
        True,
        True,
        True,
        False,
        False,
    ]
    # Rates are of the steps in which all train.
    config.optimizer.rates = (("cells", 0.5),)
    assert [optimizer.selection.rates for optimizer in make_optimizers(config)] == [
        (),
        (("cells", 0.5),),
    ]
    # Each has the whole schedule for its own steps.
    assert float(head.learning_rate((), 0)) == pytest.approx(0.05)
    assert float(head.learning_rate((), 2)) == pytest.approx(0.025)
    assert float(rest.learning_rate((), 4)) == pytest.approx(0.01)
    assert float(rest.learning_rate((), 8)) == pytest.approx(0.005)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head_first.steps": 12}, "config.head_first.steps is 12: give .* less than 12"),
        ({"head_first.steps": 4}, "config.head_first.train is empty"),
        (
            {
                "head_first.steps": 4,
                "head_first.train": ("cells",),
                "head_first.learning_rate": 0.0,
            },
            "config.head_first.learning_rate is 0.0: give more than 0",
        ),
        ({"head_first.steps": -1}, "config.head_first.steps is -1"),
    ],
)
def test_a_head_that_cannot_be_first(changes, message):
    with pytest.raises(InputError, match=message):
        make_optimizers(run_config(**changes))


def run_fit(workdir, optimizers, *, stream=None, said=None, **changes):
    run = Run(
        workdir=workdir,
        config={},
        steps=12,
        batch_size=8,
        seed=0,
        criterion=changes.pop("criterion", Criterion("score")),
        eval_every=changes.pop("eval_every", 4),
        keep=10,
    )
    return fit(
        changes.pop("task", box_task()),
        optimizers,
        run,
        train=stream or Stream(BATCHES),
        validation=VALIDATION,
        parallel=Parallel("pmap", jax.devices()[:2]),
        say=([] if said is None else said).append,
    )


@pytest.fixture(scope="module")
def phased(tmp_path_factory):
    """A run of two optimizers with means of the weights: (optimizers, what fit gave, said)."""
    config = run_config(**{"head_first.steps": 5, "head_first.train": ("cells",)})
    config.optimizer.ema_decay = 0.8
    optimizers, said = make_optimizers(config), []
    return optimizers, run_fit(tmp_path_factory.mktemp("phased"), optimizers, said=said), said


@pytest.mark.parametrize("after", [3, 7])
def test_a_run_of_two_phases_resumes_to_the_bit(phased, tmp_path, after):
    optimizers, whole, said = phased
    assert said == [
        "from step 1 on 45 of 1,650 parameters train: cells",
        "from step 6 on all 1,650 parameters train",
    ]
    options = {"eval_every": 2}
    with pytest.raises(InterruptedRunError):
        run_fit(tmp_path, optimizers, stream=Breaking(BATCHES, after), **options)
    resumed = run_fit(tmp_path, optimizers, **options)
    assert state_digest(resumed.state) == state_digest(whole.state)


def test_in_the_first_phase_only_the_head_moves(phased):
    (head, _), _, _ = phased
    before = jax.device_get(init_state(box_task(), head, 0))
    state, _ = train(box_task(), head, BATCHES, devices=2)
    equal = same(state.params, before.params)
    assert equal.pop("cells") == {"kernel": False, "bias": False}
    assert all(jax.tree.leaves(equal))
    assert sum(x.size for x in jax.tree.leaves(state.opt_state) if x.size > 1) == 45


@pytest.mark.parametrize("starts", [(1,), (0, 12), (0, 5, 5), (0, 6, 5), ()])
def test_optimizers_that_do_not_follow_one_another(tmp_path, starts):
    sgd = Optimizer(optax.with_extra_args_support(optax.sgd(0.1)), lambda step: 0.1)
    optimizers = tuple(dataclasses.replace(sgd, start=start) for start in starts)
    with pytest.raises(InputError, match="give 0 first"):
        run_fit(tmp_path, optimizers)


def test_what_the_head_comes_to_does_not_end_the_run(tmp_path):
    """Without a better evaluation the run stops early, but not before all has trained."""
    config = run_config(**{"head_first.steps": 6, "head_first.train": ("cells",)})
    config.optimizer.learning_rate = 1e-12  # so that nothing becomes better
    constant = dataclasses.replace(
        box_task(), metrics=lambda outputs, example: {"score": (1.0, 1.0)}
    )
    criterion = Criterion("score", patience=1)
    fitted = run_fit(
        tmp_path, make_optimizers(config), task=constant, criterion=criterion, eval_every=2
    )
    assert fitted.finished
    assert int(fitted.state.step) == 10


def test_means_of_the_weights_by_hand():
    """Those of every step, with a decay that grows up to the one given."""
    config = settings(learning_rate=0.05, ema_decay=0.3)
    optimizer = make_optimizer(config, steps=5)
    states = [train(box_task(), optimizer, BATCHES[:n])[0] for n in range(1, 4)]
    mean = jax.device_get(init_state(box_task(), optimizer, 0)).variables
    for step, state in enumerate(states, start=1):
        decay = min(0.3, (1 + step) / (10 + step))
        mean = jax.tree.map(lambda a, x, d=decay: d * a + (1 - d) * x, mean, state.variables)
    for one, other in zip(jax.tree.leaves(mean), jax.tree.leaves(states[-1].average), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_means_of_half_precision_are_of_single():
    optimizer = make_optimizer(settings(learning_rate=0.05, ema_decay=0.999), steps=5)
    state = init_state(box_task(jnp.bfloat16), optimizer, 0)
    assert {x.dtype for x in jax.tree.leaves(state.params)} == {jnp.dtype(jnp.bfloat16)}
    assert {x.dtype for x in jax.tree.leaves(state.average)} == {jnp.dtype(jnp.float32)}


def test_the_means_are_evaluated(phased):
    _, fitted, _ = phased
    parallel = Parallel("pmap", jax.devices()[:2])
    evaluate = make_evaluate(box_task(), parallel=parallel)
    found = evaluate(fitted.state, VALIDATION).metrics
    assert found == fitted.history[-1]["metrics"]
    of_weights = fitted.state.replace(average=None)
    of_means = of_weights.replace(
        params=fitted.state.average["params"],
        statistics={"batch_stats": fitted.state.average["batch_stats"]},
    )
    assert evaluate(of_means, VALIDATION).metrics == found
    assert evaluate(of_weights, VALIDATION).metrics != found
