"""What is frozen costs nothing; multipliers by name; phases; the moving average."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvision.core import OptionError
from jaxvision.engine import (
    Best,
    Parallel,
    Phase,
    Selection,
    abstract_state,
    decay_mask,
    evaluate,
    fit,
    init_state,
    loop,
    make_update,
    state_digest,
)
from tests.engine.image_task import image_batches, image_task
from tests.engine.sized_task import WeightedBatch, sized_task
from tests.engine.small_task import PARAMETERS, small_batches, small_task
from tests.engine.stream import Breaking, InterruptedRunError, Stream
from tests.marks import slow_but

PARAMS = {
    "conv1": {"kernel": jnp.ones((3, 3, 1, 4))},
    "layer1": {"conv": {"kernel": jnp.ones((3, 3, 4, 4)), "bias": jnp.ones(4)}},
    "fc": {"kernel": jnp.ones((4, 2)), "bias": jnp.ones(2)},
}
BATCHES = small_batches(5)
VALIDATION = small_batches(2, seed=1)

OPTIMIZERS = {
    "sgd": optax.chain(
        optax.add_decayed_weights(0.1, mask=decay_mask), optax.sgd(0.01, momentum=0.9)
    ),
    "adam": optax.adam(0.01),
    "adamw": optax.adamw(0.01, weight_decay=0.1, mask=decay_mask),
}


def train(task, optimizer, batches, devices=1, ema_decay=0.0, states=None):
    """(state, record) after the last step; the states after each are appended to `states`."""
    parallel = Parallel("pmap", jax.devices()[:devices])
    update = make_update(task, optimizer, parallel=parallel, ema_decay=ema_decay)
    state = parallel.replicate(init_state(task, optimizer, 0, ema_decay=ema_decay))
    for batch in batches:
        state, record = update(state, parallel.shard(batch), 0)
        if states is not None:
            states.append(jax.device_get(state))
    return jax.device_get(state), jax.device_get(record)


def same(one, other):
    return jax.tree.map(np.array_equal, one, other)


def test_all_are_trained_unless_something_else_is_asked_for():
    trained, frozen = Selection().split(PARAMS)
    assert trained is PARAMS
    assert frozen == {}
    assert Selection().describe(PARAMS) == "all 194 parameters are trained"


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
    line = Selection(only=("fc",)).describe(PARAMS)
    assert line == "10 of 194 parameters are trained: fc"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"freeze": ("cnv1",)}, "^freeze: 'cnv1' matches nothing"),
        ({"only": ("head",)}, "^only: 'head' matches nothing"),
        ({"lr_multipliers": (("head", 0.1),)}, "^lr_multipliers: 'head' matches nothing"),
        ({"freeze": ("*",)}, "leaves nothing to train"),
        ({"only": ("fc",), "freeze": ("fc",)}, "leaves nothing to train"),
    ],
)
def test_patterns_that_do_not_fit(fields, message):
    with pytest.raises(OptionError, match=message):
        Selection(**fields).split(PARAMS)


@pytest.mark.parametrize("name", slow_but(["sgd", "adam", "adamw"], ["adam"]))
def test_what_is_frozen_stays_to_the_bit_and_has_no_state(name):
    task = small_task()
    phase = Phase(OPTIMIZERS[name], freeze=("stem", "bn/scale"))
    state, _ = train(task, phase, BATCHES, devices=4, ema_decay=0.9)
    before = jax.device_get(init_state(task, phase, 0))
    for params in (state.params, state.ema["params"]):
        equal = same(params, before.params)
        assert equal["stem"] == {"kernel": True, "bias": True}
        assert equal["bn"] == {"scale": True, "bias": False}
        assert equal["head"] == {"kernel": False, "bias": False}
    moments = {"sgd": 1, "adam": 2, "adamw": 2}[name]
    trained = 4 + 4 * 2 + 2
    sizes = [x.size for x in jax.tree.leaves(state.opt_state)]
    assert sum(size for size in sizes if size > 1) == moments * trained


@pytest.fixture(scope="module")
def first_step():
    """(parameters before, after) the first step of all of them."""
    optimizer = OPTIMIZERS["adamw"]
    before = jax.device_get(init_state(small_task(), optimizer, 0)).params
    return before, train(small_task(), optimizer, BATCHES[:1])[0].params


def test_the_rest_trains_as_if_the_frozen_part_were_no_parameter(first_step):
    """With everything else equal, the first step of what trains is that of a whole training."""
    _, whole = first_step
    phase = Phase(OPTIMIZERS["adamw"], freeze=("stem",))
    part, record = train(small_task(), phase, BATCHES[:1])
    for name in ("bn", "head"):
        for one, other in zip(
            jax.tree.leaves(part.params[name]), jax.tree.leaves(whole[name]), strict=True
        ):
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)
    assert record["gradient_norm"] > 0


def flops(freeze):
    task, phase = image_task(blocks=1), Phase(optax.sgd(0.1, momentum=0.9), freeze=freeze)
    parallel = Parallel("shard_map", jax.devices()[:1])
    update = make_update(task, phase, parallel=parallel)
    lowered = update.lower(abstract_state(task, phase), image_batches(1, 8)[0], 0)
    return lowered.compile().cost_analysis()["flops"]


@pytest.mark.slow
def test_a_frozen_prefix_costs_no_gradient():
    whole = flops(())
    prefix = flops(("conv1", "bn1", "layer[12]*"))
    head = flops(("conv1", "bn1", "layer*"))
    # Of a convolution, the gradients by input and by kernel cost as much as itself each.
    assert head < 0.4 * whole
    assert head < prefix < 0.75 * whole


def test_multipliers_by_name(first_step):
    """The factor of the first pattern that matches multiplies what a step changes."""
    multipliers = (("head/bias", 0.5), ("head", 0.25), ("bn", 10.0))
    before, plain = first_step
    phase = Phase(OPTIMIZERS["adamw"], lr_multipliers=multipliers)
    scaled, _ = train(small_task(), phase, BATCHES[:1])
    change = jax.tree.map(np.subtract, plain, before)
    found = jax.tree.map(np.subtract, scaled.params, before)
    factors = {"head": {"bias": 0.5, "kernel": 0.25}, "bn": {"scale": 10.0, "bias": 10.0}}
    for layer, values in change.items():
        for leaf, x in values.items():
            factor = factors.get(layer, {}).get(leaf, 1.0)
            np.testing.assert_allclose(found[layer][leaf], factor * x, rtol=1e-3, atol=1e-6)


@pytest.fixture(scope="module", autouse=True)
def _without_curves():
    """Drawing them takes a third of such a run; tests of the loop see that they are drawn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "draw_curves", lambda *_: None)
        yield


def run_fit(workdir, optimizer, *, stream=None, log=None, **changes):
    options = {
        "steps": 12,
        "seed": 0,
        "best": Best("score"),
        "eval_every": 4,
        "keep": 10,
        "log_every": 100,
        "validation": VALIDATION,
        "parallel": Parallel("pmap", jax.devices()[:2]),
        **changes,
    }
    return fit(
        options.pop("task", small_task()),
        optimizer,
        train=stream or Stream(BATCHES),
        workdir=workdir,
        log=([] if log is None else log).append,
        **options,
    )


HEAD = Phase(optax.adam(0.01), 5, only=("head",))
PHASES = (HEAD, Phase(optax.sgd(0.01, momentum=0.9)))


@pytest.fixture(scope="module")
def phased(tmp_path_factory):
    """A run of two phases with a moving average: (what fit gave, logged)."""
    log = []
    return run_fit(tmp_path_factory.mktemp("phased"), PHASES, log=log, ema_decay=0.8), log


@pytest.mark.slow
@pytest.mark.parametrize("after", [3, 7])
def test_a_run_of_two_phases_resumes_to_the_bit(phased, tmp_path, after):
    whole, log = phased
    shown = [line for line in log if not line.startswith(("step ", "compiled "))]
    assert shown == [
        f"from step 1 on 10 of {PARAMETERS} parameters are trained: head",
        f"from step 6 on all {PARAMETERS} parameters are trained",
    ]
    options = {"ema_decay": 0.8, "checkpoint_every": 2}
    with pytest.raises(InterruptedRunError):
        run_fit(tmp_path, PHASES, stream=Breaking(BATCHES, after), **options)
    resumed = run_fit(tmp_path, PHASES, **options)
    assert state_digest(resumed.state) == state_digest(whole.state)


@pytest.mark.slow
def test_a_phase_starts_with_a_fresh_optimizer(tmp_path):
    """The moments of the first phase are gone: two phases are two trainings."""
    adam = optax.adam(0.01)
    alone = {"best": None, "validation": None}
    both = run_fit(None, (Phase(adam, 4), Phase(adam)), **alone)
    counts = [x for x in jax.tree.leaves(both.state.opt_state) if x.ndim == 0]
    assert [int(x) for x in counts] == [8]
    one = run_fit(None, adam, **alone)
    assert state_digest(one.state.params) != state_digest(both.state.params)


@pytest.mark.slow
def test_in_the_first_phase_only_the_head_moves():
    before = jax.device_get(init_state(small_task(), HEAD, 0))
    state, _ = train(small_task(), HEAD, BATCHES, devices=2)
    equal = same(state.params, before.params)
    assert equal.pop("head") == {"kernel": False, "bias": False}
    assert all(jax.tree.leaves(equal))
    assert sum(x.size for x in jax.tree.leaves(state.opt_state) if x.size > 1) == 2 * 10


@pytest.mark.slow
def test_what_the_first_phase_reaches_does_not_end_the_run(tmp_path):
    """Without a better evaluation the run stops early, but not before the last phase begins."""
    slow = optax.sgd(1e-12)
    constant = dataclasses.replace(
        small_task(), metrics=lambda outputs, example: {"score": (1.0, 1.0)}
    )
    best = Best("score", patience=1)
    phases = (Phase(slow, 6, only=("head",)), Phase(slow))
    fitted = run_fit(tmp_path, phases, task=constant, best=best, eval_every=2)
    assert fitted.finished
    assert int(fitted.state.step) == 10


def test_the_schedule_of_a_phase_counts_from_its_start():
    phases = (
        Phase(optax.sgd(0.1), 4, schedule=lambda step: 0.1 * step),
        Phase(optax.sgd(0.1), schedule=lambda step: 10.0 + step),
    )
    parallel = Parallel("pmap", jax.devices()[:1])
    batch, rates = WeightedBatch(np.ones((4, 2), "f4"), np.ones(4, "f4"), np.ones(4, bool)), []
    for start, phase in ((0, phases[0]), (4, phases[1])):
        update = make_update(sized_task(), phase, parallel=parallel, start=start)
        state = init_state(sized_task(), phase, 0).replace(step=jnp.int32(start + 1))
        _, record = update(parallel.replicate(state), parallel.shard(batch), 0)
        rates.append(float(record["learning_rate"]))
    assert rates == pytest.approx([0.1, 11.0])


def test_the_moving_average_by_hand():
    """That of every step, with a decay that grows up to the one given."""
    optimizer = optax.sgd(0.05, momentum=0.9)
    states = []
    train(small_task(), optimizer, BATCHES[:3], ema_decay=0.3, states=states)
    mean = jax.device_get(init_state(small_task(), optimizer, 0)).variables
    for step, state in enumerate(states, start=1):
        decay = min(0.3, (1 + step) / (10 + step))
        mean = jax.tree.map(lambda a, x, d=decay: d * a + (1 - d) * x, mean, state.variables)
    for one, other in zip(jax.tree.leaves(mean), jax.tree.leaves(states[-1].ema), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_the_moving_average_of_half_precision_is_of_single():
    task = dataclasses.replace(
        small_task(), init=lambda key: {"params": {"x": jnp.zeros((), jnp.bfloat16)}}
    )
    state = init_state(task, optax.sgd(0.05), 0, ema_decay=0.999)
    assert {x.dtype for x in jax.tree.leaves(state.params)} == {jnp.dtype(jnp.bfloat16)}
    assert {x.dtype for x in jax.tree.leaves(state.ema)} == {jnp.dtype(jnp.float32)}


def test_the_moving_average_is_evaluated(phased):
    fitted, _ = phased
    parallel = Parallel("pmap", jax.devices()[:2])

    def found(variables):
        return evaluate(small_task(), variables, VALIDATION, parallel=parallel).metrics

    assert found(fitted.state.eval_variables) == fitted.history[-1]["metrics"]
    assert found(fitted.state.ema) == fitted.history[-1]["metrics"]
    assert found(fitted.state.variables) != fitted.history[-1]["metrics"]
    best = next(e for e in fitted.history if e["step"] == fitted.step)
    assert found(fitted.variables) == best["metrics"]
