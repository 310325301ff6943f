"""The small parts around the loop: criterion, prefetch, workdir."""

import io
import threading
import time

import jax
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.engine import Criterion, Parallel
from jaxvision.engine.journal import read_metrics
from jaxvision.engine.prefetch import prefetch
from jaxvision.engine.progress import Progress
from jaxvision.engine.workdir import claim, difference, lock, read_config
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


def claimed(workdir, config, *, started, defaults=None):
    workdir.mkdir(exist_ok=True)
    claim(workdir, config, defaults=defaults or {}, started=started, writes=True)
    return read_config(workdir)


def test_a_folder_without_checkpoints_is_taken_over(tmp_path):
    """A run that failed at its first step does not block the mended one."""
    claimed(tmp_path, {"rate": 1}, started=False)
    assert claimed(tmp_path, {"rate": 2}, started=False) == {"rate": 2}
    assert claimed(tmp_path, {"rate": 2}, started=True) == {"rate": 2}
    with pytest.raises(InputError, match="rate: 2 -> 3"):
        claimed(tmp_path, {"rate": 3}, started=True)
    assert read_config(tmp_path) == {"rate": 2}


def test_a_run_of_an_older_version_lacks_new_keys(tmp_path):
    claimed(tmp_path, {"a": {"rate": 1}}, started=False)
    defaults = {"a": {"rate": 0, "new": (7,)}}
    claimed(tmp_path, {"a": {"rate": 1, "new": (7,)}}, started=True, defaults=defaults)
    with pytest.raises(InputError, match=r"\(a.new: \[7\] -> \[8\]\)"):
        claimed(tmp_path, {"a": {"rate": 1, "new": (8,)}}, started=True, defaults=defaults)


def test_checkpoints_without_their_config_are_not_taken_over(tmp_path):
    with pytest.raises(InputError, match=r"has checkpoints, but no config.json: restore it"):
        claimed(tmp_path, {}, started=True)


def test_one_process_at_a_time_trains_in_a_folder(tmp_path):
    refused = pytest.raises(InputError, match=r"another process trains in .*: wait for it")
    with lock(tmp_path / "run"), refused:
        lock(tmp_path / "run")
    with lock(tmp_path / "run"):
        pass


def test_a_folder_that_cannot_be_one(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write the run to .*: use another --workdir"):
        lock(tmp_path / "file")


def test_a_bar_in_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    progress = Progress(start=3, steps=10, batch_size=8, every=5, visible=True)
    for step in range(4, 11):
        time.sleep(0.02)
        progress.update(step, {"loss": 0.5, "accuracy": step / 10})
    progress.close()
    last = terminal.getvalue().split("\r")[-1]
    assert last.startswith("100%|")
    assert "10/10 [" in last
    assert "ETA 00:00, loss 0.5 accuracy 1 " in last
    assert " images/s]" in last


def test_a_damaged_line_of_the_metrics_is_left_out_alone(tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"st\n{"step": 3}\n{"step": 4}\n{"step"')
    assert [line["step"] for line in read_metrics(path)] == [1, 3, 4]
    assert "line 2 is damaged" in caplog.text
    assert "line 5" not in caplog.text


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(InputError, match="no run in"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json is damaged"):
        read_config(tmp_path)
