"""Checkpoints: what is damaged is passed over, and nothing is destroyed."""

import json
import logging
import random
import shutil
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.core import InputError, TrainState
from jaxvision.engine import (
    Best,
    Checkpoints,
    DamagedError,
    NonFiniteError,
    Parallel,
    checkpoint,
    restore_weights,
    state_digest,
)
from tests.descriptions import run_description


def state_at(step, seed=0):
    rng = np.random.default_rng((seed, step))
    return TrainState(
        step=jnp.int32(step),
        params={"conv": {"kernel": jnp.asarray(rng.normal(size=(3, 3, 4, 8)), jnp.float32)}},
        statistics={"batch_stats": {"mean": jnp.asarray(rng.normal(size=8), jnp.bfloat16)}},
        opt_state=({"trace": jnp.asarray(rng.normal(size=(64, 10)), jnp.float32)}, jnp.int32(step)),
    )


def history_of(scores):
    return [{"step": s, "metrics": {"accuracy": a}} for s, a in scores]


def open_checkpoints(folder, devices=4, **options):
    options.setdefault("best", Best("accuracy"))
    return Checkpoints(folder, parallel=Parallel("pmap", jax.devices()[:devices]), **options)


def save_steps(folder, scores, **options):
    with open_checkpoints(folder, **options) as checkpoints:
        for n, (step, _) in enumerate(scores, start=1):
            checkpoints.save(
                state_at(step),
                data={"batches": step},
                history=history_of(scores[:n]),
                run={"seed": 1},
            )


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Checkpoints of steps 10 and 20, of which 20 is the better."""
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    save_steps(folder, [(10, 0.5), (20, 0.75)])
    return folder


@pytest.fixture
def copied(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "checkpoints")


def test_restores_the_same_bits_on_another_number_of_devices(saved):
    for devices in (1, 4):
        restored = open_checkpoints(saved, devices, read_only=True).restore_latest(state_at)
        assert state_digest(restored.state) == state_digest(state_at(20))
        assert restored.step == 20
        assert restored.data == {"batches": 20}
        assert restored.history == history_of([(10, 0.5), (20, 0.75)])
        assert len(restored.state.params["conv"]["kernel"].sharding.device_set) == devices
        assert jax.tree.structure(restored.state) == jax.tree.structure(state_at(0))


def test_the_moving_average_is_kept_and_take_no_place_where_there_are_none(saved, tmp_path):
    def with_ema(step):
        return state_at(step).replace(ema=state_at(step + 1).variables)

    with open_checkpoints(tmp_path) as checkpoints:
        checkpoints.save(with_ema(10), data={}, history=[])
    restored = open_checkpoints(tmp_path, read_only=True).restore_latest(with_ema)
    assert state_digest(restored.state) == state_digest(with_ema(10))
    assert (tmp_path / "10" / "ema").is_dir()
    assert not (saved / "20" / "ema").exists()
    with pytest.raises(DamagedError):
        open_checkpoints(saved, read_only=True).restore_latest(with_ema)


def test_arrays_are_hashed_beside_the_training_and_the_next_save_waits_for_it(
    tmp_path, monkeypatch
):
    """No checkpoint is there before its digests are."""
    begun, go_on, threads = threading.Event(), threading.Event(), []
    digests = checkpoint.array_digests

    def slowly(tree):
        threads.append(threading.current_thread())
        begun.set()
        assert go_on.wait(60)
        return digests(tree)

    monkeypatch.setattr(checkpoint, "array_digests", slowly)
    with open_checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state_at(10), data={}, history=[])
        assert begun.wait(60)
        assert not (tmp_path / "10").exists()
        go_on.set()
        checkpoints.save(state_at(20), data={}, history=[])
        assert (tmp_path / "10" / "files.json").exists()
    assert threading.main_thread() not in threads
    monkeypatch.undo()
    restored = open_checkpoints(tmp_path, read_only=True).restore_latest(state_at)
    assert state_digest(restored.state) == state_digest(state_at(20))


def test_an_error_in_hashing_ends_the_training(tmp_path, monkeypatch):
    def fail(tree):
        raise MemoryError("no memory")

    monkeypatch.setattr(checkpoint, "array_digests", fail)
    with pytest.raises(MemoryError, match="no memory"), open_checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state_at(10), data={}, history=[])
    assert not (tmp_path / "10").exists()


def test_digest_sees_path_dtype_shape_and_bytes():
    base = {"a": np.zeros(4, np.float32), "b": np.ones(2, np.int32)}
    changed = [
        {"a": base["a"], "c": base["b"]},
        {"a": base["a"].view(np.int32), "b": base["b"]},
        {"a": base["a"].reshape(2, 2), "b": base["b"]},
        {"a": base["a"] + np.float32(1e-45), "b": base["b"]},
    ]
    assert len({state_digest(tree) for tree in [base, *changed]}) == 5
    assert state_digest(dict(reversed(base.items()))) == state_digest(base)


def test_keeps_the_last_ones_and_the_best(tmp_path):
    folder = tmp_path / "checkpoints"
    save_steps(folder, [(1, 0.2), (2, 0.9), (3, 0.4), (4, 0.9), (5, 0.1), (6, 0.3)])
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {"4", "5", "6"}
    best = open_checkpoints(folder, read_only=True).restore_weights()
    assert best.step == 4, "of equal ones the later"


def test_best_can_be_the_smallest(tmp_path):
    folder, best = tmp_path / "checkpoints", Best("accuracy", "min")
    save_steps(folder, [(1, 0.2), (2, 0.1), (3, 0.4), (4, 0.4)], best=best, keep=2)
    restored = open_checkpoints(folder, best=best).restore_weights()
    assert restored.step == 2


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)


def flip_bit(path, rng):
    content = bytearray(path.read_bytes())
    bit = rng.randrange(8 * len(content))
    content[bit // 8] ^= 1 << (bit % 8)
    path.write_bytes(content)


def largest(folder):
    return max(files_of(folder), key=lambda path: path.stat().st_size)


def test_any_flipped_bit_is_passed_over(saved, tmp_path, caplog):
    """One bit in every file of the newest checkpoint, read or not."""
    rng = random.Random(0)
    names = [path.relative_to(saved) for path in files_of(saved / "20")]
    assert len(names) > 8
    for number, name in enumerate(names):
        folder = shutil.copytree(saved, tmp_path / str(number) / "checkpoints")
        flip_bit(folder / name, rng)
        caplog.clear()
        restored = open_checkpoints(folder).restore_latest(state_at)
        assert restored.step == 10, name
        assert state_digest(restored.state) == state_digest(state_at(10))
        assert restored.data == {"batches": 10}
        assert len(restored.history) == 1
        assert "checkpoint 20" in caplog.text
        assert "damaged and passed over" in caplog.text
        assert (folder.parent / "damaged_checkpoints" / "20").is_dir(), "set aside, not lost"


@pytest.mark.slow
def test_a_flipped_bit_before_its_files_are_digested_never_gives_a_wrong_array(saved, tmp_path):
    """A process that died before that leaves the digests of the arrays and the rest."""
    rng, passed_over = random.Random(0), 0
    for number, name in enumerate(path.relative_to(saved) for path in files_of(saved / "20")):
        folder = shutil.copytree(saved, tmp_path / str(number) / "checkpoints")
        (folder / "20" / "files.json").unlink()
        if not (folder / name).exists():
            continue
        flip_bit(folder / name, rng)
        restored = open_checkpoints(folder).restore_latest(state_at)
        assert state_digest(restored.state) == state_digest(state_at(restored.step)), name
        assert restored.data == {"batches": restored.step}
        assert len(restored.history) == restored.step // 10
        passed_over += restored.step == 10
    assert passed_over >= 3, "the flips should hit what matters"


@pytest.mark.parametrize("damage", ["cut short", "gone", "empty"])
def test_a_checkpoint_cut_short_is_passed_over(copied, damage, caplog):
    path = largest(copied / "20")
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(
            path.read_bytes()[: path.stat().st_size // 2 if damage == "cut short" else 0]
        )
    restored = open_checkpoints(copied).restore_latest(state_at)
    assert restored.step == 10
    assert state_digest(restored.state) == state_digest(state_at(10))
    assert "checkpoint 20" in caplog.text


def test_the_step_of_a_damaged_checkpoint_can_be_saved_again(copied):
    flip_bit(largest(copied / "20"), random.Random(1))
    history = history_of([(10, 0.5), (20, 0.8)])
    with open_checkpoints(copied) as checkpoints:
        assert checkpoints.restore_latest(state_at).step == 10
        checkpoints.save(state_at(20, seed=5), data={}, history=history)
    restored = open_checkpoints(copied).restore_latest(state_at)
    assert state_digest(restored.state) == state_digest(state_at(20, seed=5))


def test_a_damaged_best_gives_way_to_the_next(copied, caplog):
    flip_bit(largest(copied / "20"), random.Random(1))
    best = open_checkpoints(copied, read_only=True).restore_weights()
    assert best.step == 10
    assert (copied / "20").is_dir(), "reading changes nothing"


def test_no_sound_checkpoint_is_an_error_and_nothing_is_moved(copied):
    for step in ("10", "20"):
        flip_bit(largest(copied / step), random.Random(2))
    with pytest.raises(DamagedError, match=r"none of the checkpoints \[20, 10\]"):
        open_checkpoints(copied).restore_latest(state_at)
    assert (copied / "20").is_dir()
    assert (copied / "10").is_dir()


def test_another_network_is_an_error_not_a_fresh_start(copied):
    other = state_at(0).replace(params={"dense": {"kernel": jnp.zeros((3, 3))}})
    with pytest.raises(DamagedError):
        open_checkpoints(copied).restore_latest(lambda step: other)


def test_the_digests_of_files_that_are_missing_are_written_when_it_is_restored(copied):
    files = copied / "20" / "files.json"
    written = files.read_text()
    files.unlink()
    open_checkpoints(copied, read_only=True).restore_latest(state_at)
    assert not files.exists(), "reading changes nothing"
    open_checkpoints(copied).restore_latest(state_at)
    assert json.loads(files.read_text()) == json.loads(written)


def test_a_process_that_died_while_writing_them_leaves_a_sound_checkpoint(copied):
    """Between writing files.json and giving it its name."""
    files = copied / "20" / "files.json"
    files.rename(copied / "20" / "files.json.tmp")
    for _ in range(3):
        assert open_checkpoints(copied).restore_latest(state_at).step == 20
        assert files.exists()


def test_parameters_that_are_not_finite_are_not_saved(copied):
    state = state_at(30)
    state.statistics["batch_stats"]["mean"] = jnp.full(8, jnp.nan, jnp.bfloat16)
    with open_checkpoints(copied) as checkpoints:
        checkpoints.restore_latest(state_at)
        with pytest.raises(NonFiniteError, match=r"step 30: batch_stats/mean = nan; .*/20$"):
            checkpoints.save(state, data={}, history=[])
    assert not (copied / "30").exists()


def test_a_step_that_is_there_is_not_saved_over(copied):
    with open_checkpoints(copied) as checkpoints, pytest.raises(RuntimeError, match="of step 20"):
        checkpoints.save(state_at(20, seed=1), data={}, history=[])
    restored = open_checkpoints(copied).restore_latest(state_at)
    assert state_digest(restored.state) == state_digest(state_at(20))


def test_no_checkpoint_is_none(tmp_path):
    assert open_checkpoints(tmp_path / "checkpoints").restore_latest(state_at) is None


def test_what_was_being_written_when_the_process_died_is_ignored(copied):
    shutil.copytree(copied / "20", copied / "30.orbax-checkpoint-tmp-1")
    assert open_checkpoints(copied).restore_latest(state_at).step == 20


@pytest.fixture(autouse=True)
def _warnings_reach_caplog(caplog):
    caplog.set_level(logging.WARNING)


def write_run(folder, best=None):
    """A run's folder around its checkpoints."""
    best = {} if best is None else {"best": best}
    (folder.parent / "run.json").write_text(json.dumps(run_description(fit=best)))
    return folder.parent


def contents(folder):
    return {
        path.relative_to(folder): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


ACCURACY = {"metric": "accuracy", "mode": "max", "patience": 0}


@pytest.mark.parametrize(
    ("step", "best", "expected"),
    [
        ("best", ACCURACY, 20),
        ("best", {**ACCURACY, "mode": "min"}, 10),
        ("best", None, 20),
        ("latest", {**ACCURACY, "mode": "min"}, 20),
        (10, ACCURACY, 10),
    ],
)
def test_weights_are_restored_without_a_task(copied, step, best, expected):
    workdir = write_run(copied, best)
    before = contents(workdir)
    variables, found, history = restore_weights(workdir, step)
    assert found == expected
    assert state_digest(variables) == state_digest(state_at(expected).variables)
    assert jax.tree.structure(variables) == jax.tree.structure(state_at(0).variables)
    assert len(history) == (expected if isinstance(step, int) else 20) // 10
    assert {len(x.sharding.device_set) for x in jax.tree.leaves(variables)} == {1}
    assert contents(workdir) == before, "reading changes nothing"


def test_weights_are_the_moving_average_where_there_is_one(tmp_path):
    state = state_at(10).replace(ema=state_at(11).variables)
    with open_checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(state, data={}, history=[])
    workdir = write_run(tmp_path / "checkpoints")
    found = restore_weights(workdir, parallel=Parallel())
    assert state_digest(found.variables) == state_digest(state.ema)
    assert {len(x.sharding.device_set) for x in jax.tree.leaves(found.variables)} == {4}


def test_weights_may_be_nested_in_lists_and_be_empty(tmp_path):
    params = {"a": [jnp.ones(2), (jnp.zeros(()), {"b/c": jnp.ones((1, 3))})], "none": {}}
    state = state_at(10).replace(params=params, statistics={})
    with open_checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(state, data={}, history=[])
        back = checkpoints.restore_latest(lambda step: state)
    assert state_digest(back.state) == state_digest(state)
    found = restore_weights(write_run(tmp_path / "checkpoints")).variables["params"]
    assert found["a"][1][1]["b/c"].shape == (1, 3)
    assert found["none"] == {}
    assert state_digest(found) == state_digest(params)


def test_damaged_weights_give_way_and_nothing_is_moved(copied):
    workdir = write_run(copied, ACCURACY)
    flip_bit(largest(copied / "20"), random.Random(1))
    before = contents(workdir)
    assert restore_weights(workdir).step == 10
    assert restore_weights(workdir, "latest").step == 10
    with pytest.raises(DamagedError, match=r"none of the checkpoints \[20\]"):
        restore_weights(workdir, 20)
    assert contents(workdir) == before


def test_weights_that_are_not_there(copied, tmp_path):
    with pytest.raises(InputError, match="no run in"):
        restore_weights(tmp_path / "nothing")
    workdir = write_run(copied, ACCURACY)
    with pytest.raises(InputError, match=r"no checkpoint of step 15 in .*: it has 10, 20"):
        restore_weights(workdir, 15)
    with pytest.raises(InputError, match="step is 'last': give 'best', 'latest' or a number"):
        restore_weights(workdir, "last")
    empty = tmp_path / "empty" / "checkpoints"
    empty.mkdir(parents=True)
    with pytest.raises(InputError, match="no checkpoint in"):
        restore_weights(write_run(empty))


def test_checkpoints_renamed_among_themselves_are_refused(copied):
    """Their folders say one step, and their contents another."""
    (copied / "10").rename(copied / "x")
    (copied / "20").rename(copied / "10")
    (copied / "x").rename(copied / "20")
    message = r"20 has the checkpoint of step 10: its folder was renamed or copied; give it the"
    with open_checkpoints(copied) as checkpoints:
        with pytest.raises(InputError, match=message):
            checkpoints.restore_latest(state_at)
        for step in ("best", "latest", 20):
            with pytest.raises(InputError, match=message):
                checkpoints.restore_weights(step)
    assert {path.name for path in copied.iterdir() if path.is_dir()} == {"10", "20"}


def test_the_step_of_a_checkpoint_of_an_earlier_version_is_known_by_its_digest(saved):
    with open_checkpoints(saved, read_only=True) as checkpoints:
        meta = checkpoints._read_meta(20)
        assert meta.pop("step") == 20
        checkpoints._check_step(20, meta)
        with pytest.raises(InputError, match="10 has the checkpoint of step 20"):
            checkpoints._check_step(10, meta)
