"""The small parts around the loop: criterion, prefetch, workdir."""

import threading

import jax
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.engine import Criterion, Parallel
from jaxvision.engine.prefetch import prefetch
from jaxvision.engine.workdir import claim, difference, read_config
from tests.engine.stream import Stream


def history_of(*scores):
    return [{"step": n, "metrics": {"a": score}} for n, score in enumerate(scores, start=1)]


@pytest.mark.parametrize(
    ("scores", "mode", "ranked"),
    [
        ((0.1, 0.3, 0.2), "max", [2, 3, 1]),
        ((0.1, 0.3, 0.2), "min", [1, 3, 2]),
        ((0.3, 0.3), "max", [2, 1]),
        ((0.3, 0.3), "min", [2, 1]),
        ((), "max", []),
    ],
)
def test_ranking(scores, mode, ranked):
    assert Criterion("a", mode).ranked(history_of(*scores)) == ranked


@pytest.mark.parametrize(
    ("scores", "patience", "stalled"),
    [
        ((0.1, 0.3, 0.2), 1, True),
        ((0.1, 0.3, 0.2), 2, False),
        ((0.1, 0.3, 0.3, 0.3), 2, True),
        ((0.1, 0.3, 0.3, 0.4), 2, False),
        ((0.5, 0.1, 0.1), 0, False),
        ((), 1, False),
    ],
)
def test_stalling(scores, patience, stalled):
    assert Criterion("a", patience=patience).stalled(history_of(*scores)) is stalled


def test_unknown_mode():
    with pytest.raises(InputError, match="mode is 'maximum': choose max or min"):
        Criterion("a", "maximum")


def test_prefetch_gives_batches_with_the_state_after_each():
    parallel = Parallel(devices=jax.devices()[:2])
    batches = [np.full((4, 3), n, np.float32) for n in range(3)]
    ahead = prefetch(Stream(batches), parallel)
    for n in range(7):
        batch, state = next(ahead)
        assert state == {"position": n + 1}
        assert len(batch.sharding.device_set) == 2
        assert np.asarray(batch).reshape(-1, 3)[:, 0].tolist() == [n % 3] * 4
    ahead.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("prefetch")]


def test_an_error_while_reading_surfaces():
    class Broken(Stream):
        def __next__(self):
            raise InputError("record 7 is bad")

    with pytest.raises(InputError, match="record 7 is bad"):
        next(prefetch(Broken([]), Parallel()))


def test_difference_of_configs():
    old = {"a": 1, "b": {"c": [1, 2], "d": "x"}, "gone": None}
    new = {"a": 1, "b": {"c": [1, 3], "d": "x", "e": 0}}
    assert difference(old, new) == [
        "b.c: [1, 2] -> [1, 3]",
        "b.e: '(absent)' -> 0",
        "gone: None -> '(absent)'",
    ]
    assert difference(old, old) == []


def test_a_folder_without_checkpoints_is_taken_over(tmp_path):
    """A run that failed at its first step does not block the mended one."""
    claim(tmp_path / "run", {"rate": 1}, started=False, writes=True)
    claim(tmp_path / "run", {"rate": 2}, started=False, writes=True)
    assert read_config(tmp_path / "run") == {"rate": 2}
    claim(tmp_path / "run", {"rate": 2}, started=True, writes=True)
    with pytest.raises(InputError, match="rate: 2 -> 3"):
        claim(tmp_path / "run", {"rate": 3}, started=True, writes=True)
    assert read_config(tmp_path / "run") == {"rate": 2}


def test_a_folder_that_cannot_be_one(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write the run to .*: use another --workdir"):
        claim(tmp_path / "file", {}, started=False, writes=True)


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(InputError, match="no run in"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json is damaged"):
        read_config(tmp_path)
