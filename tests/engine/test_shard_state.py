"""The optimizer's state and the EMA in pieces: the same numbers, a part of the memory."""

import re

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
    decay_mask,
    fit,
    init_state,
    make_update,
    place_state,
    seed_array,
    step_digest,
)
from tests.engine.small_task import small_batches, small_task
from tests.engine.stream import Breaking, InterruptedRunError, Stream
from tests.engine.test_accumulate import in_float64
from tests.marks import slow_but

BATCH = small_batches(1)[0]


def of_configs():
    """All that an optimizer of a config may have: momentum, decay, a global norm, a plateau."""
    return optax.chain(
        optax.clip_by_global_norm(0.5),
        optax.adamw(0.1, weight_decay=0.1, mask=decay_mask),
        optax.contrib.reduce_on_plateau(factor=0.5, patience=1, accumulation_size=1),
    )


OPTIMIZERS = {
    "of configs": of_configs,
    "sgd": lambda: optax.chain(
        optax.add_decayed_weights(0.1, mask=decay_mask), optax.sgd(0.1, momentum=0.9, nesterov=True)
    ),
    # A norm of each array; rows and columns of each array.
    "lamb": lambda: optax.lamb(0.1, weight_decay=0.1, mask=decay_mask),
    "adafactor": lambda: optax.adafactor(0.1, min_dim_size_to_factor=2),
}


def prepared(optimizer, *, shard_state, devices=4, **options):
    """(update, state, batch) in float64."""
    parallel, task = Parallel("shard_map", jax.devices()[:devices]), small_task()
    state = in_float64(jax.device_get(init_state(task, optimizer, 0, ema_decay=0.9)))
    update = make_update(
        task, optimizer, parallel=parallel, ema_decay=0.9, shard_state=shard_state, **options
    )
    state = place_state(state, parallel, shard_state=shard_state)
    return update, state, parallel.shard(in_float64(BATCH))


def three_steps(optimizer, **options):
    with jax.enable_x64():
        update, state, batch = prepared(optimizer, **options)
        for _ in range(3):
            state, record = update(state, batch, seed_array(3))
        assert update.compilations == 1
        return state, record


CASES = [(name, n, 1) for name in OPTIMIZERS for n in (2, 4)] + [("of configs", 2, 2)]


@pytest.mark.parametrize(
    ("name", "devices", "accumulate"), slow_but(CASES, [("of configs", 4, 1), ("lamb", 4, 1)])
)
def test_the_state_in_pieces_is_that_of_the_whole(name, devices, accumulate):
    optimizer = OPTIMIZERS[name]()
    options = {"devices": devices, "accumulate": accumulate}
    found = three_steps(optimizer, shard_state=True, **options)
    expected = three_steps(optimizer, shard_state=False, **options)
    for (path, x), y in zip(
        jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True
    ):
        name = jax.tree_util.keystr(path)
        assert x.dtype == y.dtype, name
        np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-12, err_msg=name)


def bytes_on_a_device(tree):
    return sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(tree))


def bytes_of(tree):
    return sum(x.nbytes for x in jax.tree.leaves(tree))


def test_a_device_has_a_piece_of_the_state_and_sends_no_more():
    """Of 4 devices; the two biases of the head, and numbers, are on each device whole."""
    optimizer = optax.adam(0.1)
    with jax.enable_x64():
        update, state, batch = prepared(optimizer, shard_state=True)
        compiled = update.lower(state, batch, seed_array(0)).compile()
        state, _ = update(state, batch, seed_array(0))
    program = compiled.as_text()
    trained = jax.tree.leaves(state.params)
    cut = [x for x in trained if x.size > 2]
    assert len(cut) == len(trained) - 1
    scattered, gathered = (
        re.findall(rf" = f64\[([\d,]+)\]\S* {name}\(", program)
        for name in ("reduce-scatter", "all-gather")
    )
    sizes = [
        [np.prod(list(map(int, shape.split(",")))) for shape in x] for x in (scattered, gathered)
    ]
    assert sorted(sizes[0]) == sorted(x.size // 4 for x in cut)
    assert sorted(sizes[1]) == sorted(x.size for x in cut)
    # No gradient of an array in pieces is all-reduced: what is left are numbers and two biases.
    for shapes in re.findall(r" = ([^=]*?) all-reduce\(", program):
        assert all(int(n or 1) <= 2 for n in re.findall(r"f64\[([\d,]*)\]", shapes)), shapes

    moments, ema = jax.tree.leaves(state.opt_state[0].mu), state.ema["params"]
    whole = 2 * 8
    assert bytes_on_a_device(moments) - whole == (bytes_of(moments) - whole) / 4
    assert bytes_on_a_device(ema) - whole == (bytes_of(ema) - whole) / 4
    assert bytes_on_a_device(state.params) == bytes_of(state.params)
    arguments = bytes_on_a_device((state, batch)) + seed_array(0).nbytes
    assert compiled.memory_analysis().argument_size_in_bytes == pytest.approx(arguments, abs=16)
    assert compiled.memory_analysis().alias_size_in_bytes >= bytes_on_a_device(state) - 16


PHASES = [Phase(optax.sgd(0.05, momentum=0.9), steps=3), Phase(optax.adam(0.01), freeze=("stem",))]


def train(workdir, *, devices, shard_state, stream=None):
    return fit(
        small_task(),
        PHASES,
        train=stream or Stream(small_batches(5)),
        validation=small_batches(2, seed=1),
        best=Best("score"),
        steps=8,
        seed=0,
        ema_decay=0.8,
        eval_every=4,
        checkpoint_every=2,
        workdir=workdir,
        parallel=Parallel("shard_map", jax.devices()[:devices]),
        shard_state=shard_state,
        log=lambda line: None,
    )


@pytest.fixture(scope="module")
def uninterrupted():
    return train(None, devices=4, shard_state=False)


def assert_same_run(found, expected):
    assert found.finished
    assert (found.step, len(found.history)) == (expected.step, len(expected.history))
    for x, y in zip(jax.tree.leaves(found.state), jax.tree.leaves(expected.state), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)
    for x, y in zip(
        jax.tree.leaves(found.variables), jax.tree.leaves(expected.variables), strict=True
    ):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("first", "second"),
    slow_but([((4, True), (2, False)), ((2, False), (4, True)), ((4, True), (2, True))], []),
)
def test_a_run_goes_on_in_pieces_or_whole_on_other_devices(tmp_path, uninterrupted, first, second):
    """From a checkpoint in the second phase, whose optimizer started in the one of the first."""
    with pytest.raises(InterruptedRunError):
        train(
            tmp_path,
            devices=first[0],
            shard_state=first[1],
            stream=Breaking(small_batches(5), after=7),
        )
    found = train(tmp_path, devices=second[0], shard_state=second[1])
    assert_same_run(found, uninterrupted)
    cut = [x for x in jax.tree.leaves(found.state.opt_state) if not x.is_fully_replicated]
    assert bool(cut) == second[1]


@pytest.mark.slow
def test_without_a_workdir_the_best_variables_are_whole(uninterrupted):
    found = train(None, devices=4, shard_state=True)
    assert_same_run(found, uninterrupted)
    assert all(x.is_fully_replicated for x in jax.tree.leaves(found.variables))
    assert not all(x.is_fully_replicated for x in jax.tree.leaves(found.state.ema))


def test_pmap_has_no_pieces():
    message = "shard_state is True and parallel is 'pmap': use 'shard_map'"
    options = {"parallel": Parallel("pmap"), "shard_state": True}
    with pytest.raises(OptionError, match=message):
        make_update(small_task(), optax.sgd(0.1), **options)
    with pytest.raises(OptionError, match=message):
        fit(
            small_task(),
            optax.sgd(0.1),
            train=Stream(small_batches(1)),
            steps=1,
            seed=0,
            **options,
        )


def test_arrays_are_cut_along_the_first_axis_that_the_devices_divide():
    parallel = Parallel("shard_map")
    shapes = [(4, 3), (3, 8), (6, 6), (), (0, 4), (3, 3, 16, 4)]
    state = init_state(small_task(), optax.sgd(0.1), 0).replace(
        opt_state=[jnp.zeros(shape) for shape in shapes]
    )
    placed = place_state(state, parallel, shard_state=True).opt_state
    pieces = [x.addressable_shards[0].data.shape for x in placed]
    assert pieces == [(1, 3), (3, 2), (6, 6), (), (0, 1), (3, 3, 4, 4)]
    np.testing.assert_array_equal(parallel.whole(placed)[1], np.zeros((3, 8)))
    assert [x.shape for x in parallel.fetch(placed)] == shapes


def test_the_digest_of_the_step_does_not_see_the_pieces():
    """So a run may resume with other ones: it is traced for one device, with the state whole."""
    task, optimizer = small_task(), optax.sgd(0.1)
    parallel = Parallel("shard_map")
    state = init_state(task, optimizer, 0)
    digests = {
        step_digest(task, optimizer, place_state(state, parallel, shard_state=cut), BATCH)
        for cut in (False, True)
    }
    assert len(digests) == 1
