"""The small parts around the loop: the best evaluation, prefetch, progress, phases, run.json."""

import dataclasses
import functools
import io
import json
import re
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvision.core import InputError, Inputs, OptionError
from jaxvision.engine import Best, Parallel, Phase, decay_mask, read_run
from jaxvision.engine.journal import read_metrics
from jaxvision.engine.phases import stage_after, stages_of
from jaxvision.engine.prefetch import Peeked, Waiting, prefetch
from jaxvision.engine.progress import Moment, Progress
from jaxvision.engine.workdir import claim, describe_task, lock, versions
from tests.descriptions import run_description
from tests.engine.box_task import box_task
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
    assert Best("a", mode).ranked(history_of(*scores)) == ranked


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
    assert Best("a", patience=patience).stalled(history_of(*scores)) is stalled


def test_unknown_mode():
    with pytest.raises(InputError, match="mode is 'maximum': choose max or min"):
        Best("a", "maximum")


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


@pytest.mark.parametrize("depth", [1, 3])
def test_prefetch_keeps_as_many_batches_ready_as_it_is_asked_to(depth):
    reads, enough = [], threading.Event()

    class Watched(Stream):
        def __next__(self):
            reads.append(self._position)
            if len(reads) == 1 + depth:
                enough.set()
            return super().__next__()

    waiting = Waiting()
    batches = Watched([np.zeros(1, np.float32)])
    ahead = prefetch(batches, Parallel(devices=jax.devices()[:1]), depth=depth, waiting=waiting)
    next(ahead)
    assert enough.wait(60), "they are read although no further batch is asked for"
    ahead.close()
    assert len(reads) == 1 + depth
    assert waiting.seconds > 0


def test_the_first_batch_can_be_looked_at():
    data = Peeked(Stream(["a", "b", "c"]))
    assert data.get_state() == {"position": 0}
    assert data.first() == data.first() == "a"
    assert data.get_state() == {"position": 0}
    assert next(data) == "a"
    assert data.get_state() == {"position": 1}
    assert data.first() == "b"
    data.set_state({"position": 2})
    assert next(data) == "c"
    assert Peeked(iter("ab")).get_state() is None


def test_data_that_end_say_so():
    data = Peeked(iter("a"))
    next(data)
    with pytest.raises(InputError, match="the training data ended before the training did"):
        next(data)


def test_an_error_while_reading_surfaces():
    class Broken(Stream):
        def __next__(self):
            raise InputError("record 7 is bad")

    with pytest.raises(InputError, match="record 7 is bad"):
        next(prefetch(Broken([]), Parallel()))


RUN = {
    "format": 1,
    "versions": versions(),
    "kind": "boxes",
    "task": {"loss": {"object": "own.py:loss", "sha256": "1"}, "inputs": {"name": "Inputs"}},
    "fit": {"steps": 12, "batch_size": 64},
    "options": {"data": [1, 2]},
    "code": {"own.py:loss": "1"},
    "step_digest": ["a"],
    "data_start": {"position": 0},
}


def claimed(workdir, *, started, extend=False, log=None, **changes):
    """What is in the folder after a run with some changes of RUN asks for it."""
    workdir.mkdir(exist_ok=True)
    logged = [] if log is None else log
    run = {**RUN, **changes}
    claim(workdir, run, started=started, writes=True, extend=extend, log=logged.append)
    return read_run(workdir)


def test_a_folder_without_checkpoints_is_taken_over(tmp_path):
    """A run that failed at its first step does not block the repaired one."""
    claimed(tmp_path, started=False)
    other = {"options": {"data": [1, 3]}}
    assert claimed(tmp_path, started=False, **other) == {**RUN, **other}
    assert claimed(tmp_path, started=True, **other) == {**RUN, **other}
    with pytest.raises(InputError, match=r"another run \(options.data: \[1, 3\] -> \[1, 2\]\)"):
        claimed(tmp_path, started=True)
    assert read_run(tmp_path) == {**RUN, **other}


@pytest.mark.parametrize(
    ("changes", "listed"),
    [
        ({"kind": "points"}, 'kind: "boxes" -> "points"'),
        ({"fit": {"steps": 12, "batch_size": 32, "ema_decay": 0.9}},
         "fit.batch_size: 64 -> 32; fit.ema_decay: (absent) -> 0.9"),
        ({"task": {"loss": {"name": "l2"}, "inputs": {"name": "Inputs"}}},
         'task.loss.name: (absent) -> "l2"; task.loss.object: "own.py:loss" -> (absent)'),
        ({"task": {"loss": {"object": "own.py:loss", "sha256": "2"}, "inputs": {"name": "Inputs"}},
          "code": {"own.py:loss": "2"}}, "the code of own.py:loss is another"),
        ({"step_digest": ["b"]}, "the training step: it computes something else"),
        ({"fit": {"steps": 24, "batch_size": 64}}, "fit.steps: 12 -> 24"),
    ],
)  # fmt: skip
def test_another_run_is_refused_with_the_differences(tmp_path, changes, listed):
    claimed(tmp_path, started=False)
    with pytest.raises(InputError, match=re.escape(f"has another run ({listed}")) as caught:
        claimed(tmp_path, started=True, **changes)
    assert ("extend=True lets steps grow" in str(caught.value)) == ("12 -> 24" in listed)
    assert read_run(tmp_path) == RUN


def test_the_step_is_not_compared_between_versions(tmp_path):
    claimed(tmp_path, started=False, versions={"jaxvision": "0.0", "jax": "0.1"})
    log = []
    claimed(tmp_path, started=True, step_digest=["b"], log=log)
    assert log == [
        "the run was started by jaxvision 0.0 and jax 0.1, this is jaxvision "
        f"{RUN['versions']['jaxvision']} and jax {jax.__version__}: the training step is not "
        "compared"
    ]


def test_steps_may_grow_if_they_are_allowed_to(tmp_path):
    claimed(tmp_path, started=False)
    longer = {"fit": {"steps": 24, "batch_size": 64}, "step_digest": ["b"]}
    log = []
    run = claimed(tmp_path, started=True, extend=True, log=log, **longer)
    assert log == ["the run grows from 12 to 24 steps"]
    earlier = {key: RUN[key] for key in ("versions", "fit", "step_digest")}
    assert run == {**RUN, **longer, "extended": [earlier]}
    with pytest.raises(InputError, match="steps: 24 -> 12"):
        claimed(tmp_path, started=True, extend=True)
    with pytest.raises(InputError, match="batch_size: 64 -> 1"):
        claimed(tmp_path, started=True, extend=True, fit={"steps": 48, "batch_size": 1})


def test_the_options_of_the_command_line_are_kept_and_not_compared(tmp_path):
    claimed(tmp_path, started=False, config={"log_every": 1})
    assert claimed(tmp_path, started=True, config={"log_every": 2})["config"] == {"log_every": 1}


def test_checkpoints_without_their_description_are_not_taken_over(tmp_path):
    with pytest.raises(InputError, match=r"has checkpoints, but no run.json: restore it"):
        claimed(tmp_path, started=True)


def test_one_process_at_a_time_trains_in_a_folder(tmp_path):
    refused = pytest.raises(InputError, match=r"another process trains in .*: wait for it")
    with lock(tmp_path / "run"), refused:
        lock(tmp_path / "run")
    with lock(tmp_path / "run"):
        pass


def test_a_folder_that_cannot_be_one(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write the run to .*: use another workdir"):
        lock(tmp_path / "file")


def test_a_bar_in_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    progress = Progress(start=3, steps=10, batch_size=8, every=5, log=print, visible=True)
    for step in range(4, 11):
        time.sleep(0.02)
        moment = Moment(time.perf_counter(), waited=0.0)
        progress.update(step, {"loss": 0.5, "accuracy": step / 10}, moment)
    progress.close()
    last = terminal.getvalue().split("\r")[-1]
    assert last.startswith("100%|")
    assert "10/10 [" in last
    assert "ETA 00:00, loss 0.5 accuracy 1 " in last
    assert " images/s 0% waiting for data]" in last


def test_a_damaged_line_of_the_metrics_is_left_out_alone(tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"st\n{"step": 3}\n{"step": 4}\n{"step"')
    assert [line["step"] for line in read_metrics(path)] == [1, 3, 4]
    assert "line 2 is damaged" in caplog.text
    assert "line 5" not in caplog.text


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(InputError, match="no run in"):
        read_run(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"run\.json is damaged"):
        read_run(tmp_path)
    (tmp_path / "run.json").write_text('{"format": 2}')
    with pytest.raises(InputError, match=r"run\.json has format 2, and this version .* reads 1"):
        read_run(tmp_path)


def rate_of(optimizer, count=0, **fields):
    phase = Phase(optimizer, **fields)
    params = {"w": np.ones(3, "f4")}
    state = jax.jit(phase.init)(params)

    @jax.jit
    def step(state, n):
        _, state = optax.with_extra_args_support(optimizer).update(
            params, state, params, value=jnp.float32(1)
        )
        return state, phase.learning_rate(state, n)

    rates = []
    for n in range(count, count + 3):
        state, rate = step(state, n)
        rates.append(None if rate is None else float(rate))
    return rates


def test_the_learning_rate_is_that_of_the_schedule_or_of_the_optimizer_or_unknown():
    halving = optax.exponential_decay(0.1, 1, 0.5)
    assert rate_of(optax.adam(halving)) == [None] * 3
    assert rate_of(optax.adam(halving), schedule=halving) == pytest.approx([0.1, 0.05, 0.025])
    injected = optax.inject_hyperparams(optax.adam)(learning_rate=halving)
    assert rate_of(injected) == pytest.approx([0.1, 0.05, 0.025])
    assert rate_of(optax.chain(optax.clip(1.0), injected)) == pytest.approx([0.1, 0.05, 0.025])
    assert rate_of(optax.inject_hyperparams(optax.scale)(step_size=0.1)) == [None] * 3
    plateau = optax.contrib.reduce_on_plateau(factor=0.5, patience=1, accumulation_size=1)
    falling = optax.chain(optax.sgd(0.1), plateau)
    assert rate_of(falling, schedule=lambda step: 0.1) == pytest.approx([0.1, 0.05, 0.025])


SGD = optax.sgd(0.1)


def test_phases_follow_one_another():
    assert [stage.start for stage in stages_of(SGD, 12)] == [0]
    phases = [Phase(SGD, 4), Phase(SGD, 3), Phase(SGD)]
    assert [stage.start for stage in stages_of(phases, 12)] == [0, 4, 7]
    assert [stage.start for stage in stages_of([Phase(SGD, 4), Phase(SGD, 8)], 12)] == [0, 4]
    frozen = stages_of([Phase(SGD, 4, freeze=("a",)), Phase(SGD)], 12, freeze=("b", "c"))
    assert [stage.phase.freeze for stage in frozen] == [("a", "b", "c"), ("b", "c")]
    assert stages_of(SGD, 12, freeze=("b",))[0].phase == Phase(SGD, freeze=("b",))
    stages = stages_of(phases, 12)
    starts = [stage_after(stages, step).start for step in (0, 1, 4, 5, 7, 8, 12)]
    assert starts == [0, 0, 0, 4, 4, 7, 7]


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ([Phase(SGD, 12), Phase(SGD)], "the phases have 12, the rest steps of 12: give steps that"),
        ([Phase(SGD, 5), Phase(SGD, 6)], "the phases have 5, 6 steps of 12: .* add up to 12"),
        ([Phase(SGD, 5), Phase(SGD, 8)], "add up to 12"),
        ([Phase(SGD), Phase(SGD, 8)], "phase 1 of 2 has no steps"),
        ([], "optimizer is no optimizer"),
        ([SGD], "optimizer is no optimizer"),
    ],
)
def test_phases_that_do_not_follow_one_another(phases, message):
    with pytest.raises(OptionError, match=message):
        stages_of(phases, 12)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"optimizer": "adam"}, "optimizer is 'adam': give one of optax's"),
        ({"steps": 0}, "steps is 0: give at least 1"),
        ({"lr_multipliers": ("bn", 0.1)}, "lr_multipliers has 'bn': give pairs"),
        ({"lr_multipliers": (("bn",),)}, r"lr_multipliers has \('bn',\): give pairs"),
        ({"lr_multipliers": ((0.1, "bn"),)}, "lr_multipliers has"),
        ({"lr_multipliers": (("bn", 0.0),)}, "lr_multipliers of 'bn' is 0.0: give more than 0"),
    ],
)
def test_wrong_phases(fields, message):
    with pytest.raises(OptionError, match=message) as caught:
        Phase(**{"optimizer": SGD, **fields})
    assert caught.value.option in fields


def test_weight_decay_is_for_kernels():
    params = {"fc": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}, "bn": {"scale": jnp.ones(3)}}
    assert decay_mask(params) == {"fc": {"kernel": True, "bias": False}, "bn": {"scale": False}}


def test_a_task_is_described_by_its_origin_where_it_is_still_that():
    task = box_task()
    named = {"name": "box"}
    task = dataclasses.replace(
        task,
        kind="boxes",
        inputs=Inputs((8, 8), channels=1),
        class_names=("a", "b"),
        origin={"loss": (task.loss, named), "forward": (task.forward, {"model": named})},
    )
    found = describe_task(task)
    assert found["loss"] == named
    assert found["forward"] == {"model": named}
    assert found["inputs"] == {
        "name": "Inputs", "size": [8, 8], "channels": 1, "mean": [0.0], "std": [1.0]
    }  # fmt: skip
    assert found["class_names"] == ["a", "b"]
    assert found["decode"]["object"] == "tests.engine.box_task:box_task.<locals>.decode"
    assert len(found["decode"]["sha256"]) == 64
    assert not found.keys() & {"kind", "origin", "dataset_metric"}
    mine = dataclasses.replace(task, loss=lambda outputs, example, *, key, step: {})
    assert describe_task(mine)["loss"]["object"].startswith(f"{__name__}:test_a_task")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        *(({part: None}, rf"damaged \({part} is None") for part in ("versions", "task", "fit")),
        *(({part: []}, rf"damaged \({part} is \[\]") for part in ("options", "code", "kind")),
        ({"step_digest": {}}, "step_digest is {}"),
        ({"step_digest": [3]}, "0 is 3"),
        ({"config": "x"}, "config is 'x'"),
        ({"extended": 3}, "extended is 3"),
        ({"code": {"a": 1}}, "a is 1"),
        ({"fit": {"steps": "20"}}, "steps is '20'"),
        ({"fit": {"steps": True}}, "steps is True"),
        ({"fit": {"best": 3}}, "damaged"),
        ({"fit": {"best": {"mode": "max"}}}, "missing 1 required positional argument: 'metric'"),
        ({"fit": {"best": {"metric": "a", "mode": "x"}}}, "mode is 'x'"),
        ({"task": {"class_names": 3}}, "task.class_names is 3"),
        ({"task": {"class_names": ["a", None]}}, r"task.class_names is \['a', None\]"),
        ({"format": [1]}, r"format \[1\], and this version"),
        ({"options": {"x" * 10**6: 3}, "kind": 3}, "kind is 3"),
        ({"data_start": functools.reduce(lambda x, _: [x], range(60), [])}, "nested too deeply"),
    ],
)
def test_a_damaged_description_is_refused_in_one_line(tmp_path, damage, message):
    (tmp_path / "run.json").write_text(json.dumps(run_description(**damage)))
    with pytest.raises(InputError, match=message) as error:
        read_run(tmp_path)
    assert len(str(error.value)) < 500
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged"),
        (b"[]", "it has no format"),
        (b'{"format": 1, "format": 2}', "has the key 'format' twice"),
        (b"[" * 10**5, "nested too deeply"),
        ("{}".encode("utf-16"), "not UTF-8"),
        (json.dumps(run_description())[:-20].encode(), "damaged"),
        (json.dumps({**run_description(), "fit": {}}).encode(), "it has no steps"),
        (json.dumps({"format": 1}).encode(), "it has no versions"),
    ],
)
def test_a_description_that_is_none(tmp_path, content, message):
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_run(tmp_path)


def test_a_resumed_run_may_lack_later_options(tmp_path):
    """An option that an earlier version lacks is None where it is not given."""
    old, new = run_description(options={"a": 1}), run_description(options={"a": 1, "binary": None})
    (tmp_path / "run.json").write_text(json.dumps(old))
    claim(tmp_path, new, started=True, writes=True, extend=False, log=print)
    with pytest.raises(InputError, match=r"options.binary: \(absent\) -> true"):
        claim(
            tmp_path, run_description(options={"a": 1, "binary": True}),
            started=True, writes=True, extend=False, log=print,
        )  # fmt: skip
