"""The loop: resumed runs, the journal, stopping early, on other devices, on bad numbers."""

import contextlib
import dataclasses
import gzip
import io
import json
import re
import resource
import shutil
import signal
import subprocess
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from matplotlib.figure import Figure

from jaxvision.core import InputError, OptionError
from jaxvision.core.files import NoRoomError
from jaxvision.engine import (
    Best,
    NonFiniteError,
    Parallel,
    Phase,
    fit,
    init_state,
    loop,
    read_run,
    restore_weights,
    state_digest,
)
from jaxvision.engine.curves import draw_curves
from tests.engine.box_task import box_batches, box_task
from tests.engine.small_task import PARAMETERS, small_batches, small_task
from tests.engine.stream import Acting, Breaking, InterruptedRunError, Stream
from tests.marks import long_but, slow_but

PHASE = Phase(optax.sgd(0.01, momentum=0.9), schedule=lambda step: 0.01)
ALL = "all 1,650 parameters are trained"
BATCHES = box_batches(5, 8)
VALIDATION = [batch.replace(partners=None) for batch in box_batches(2, 8, seed=1)]
ALL_OF_SMALL = f"all {PARAMETERS} parameters are trained"
SMALL_BATCHES = small_batches(5)
SMALL_VALIDATION = small_batches(2, seed=1)


@pytest.fixture(autouse=True)
def _without_curves(monkeypatch):
    """Drawing them takes a third of such a run: those of `whole` and of one test alone are."""
    monkeypatch.setattr(loop, "draw_curves", lambda *_: None)


def run_fit(workdir, *, task=None, optimizer=(PHASE,), stream=None, devices=4, log=None, **changes):
    options = {"steps": 12, "seed": 0, "eval_every": 4, "validation": VALIDATION, **changes}
    if options["validation"] is not None:
        options.setdefault("best", Best("score"))
    return fit(
        task or box_task(),
        optimizer,
        train=stream or Stream(BATCHES),
        workdir=workdir,
        parallel=Parallel("pmap", jax.devices()[:devices]),
        log=(log if log is not None else []).append,
        **options,
    )


def run_small(workdir, **changes):
    """As run_fit, for what does not depend on the task: a small one, as tracing takes longest."""
    given = {
        "task": small_task(),
        "stream": Stream(SMALL_BATCHES),
        "validation": SMALL_VALIDATION,
        "devices": 1,
    }
    return run_fit(workdir, **{**given, **changes})


def without_progress(lines):
    return [line for line in lines if not line.startswith(("step ", "compiled "))]


def read_lines(workdir):
    """The lines of a run, without the share of the time that it waited for data."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    waits = [line.pop("data_wait") for line in lines]
    assert all(0 <= wait <= 1 for wait in waits)
    return lines


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was never interrupted: (folder, what fit gave)."""
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, run_fit(workdir, options={"rate": 0.01, "widths": (1, 2)})


@pytest.fixture(scope="module")
def whole_small(tmp_path_factory):
    """The same of the small task, without the folder."""
    return run_small(tmp_path_factory.mktemp("whole_small"))


OPTIONS = {"rate": 0.01, "widths": [1, 2]}


def test_a_run_leaves_what_it_should(whole):
    workdir, fitted = whole
    assert fitted.finished
    assert int(fitted.state.step) == 12
    lines = read_lines(workdir)
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert [line["step"] for line in lines if "validation/score" in line] == [4, 8, 12]
    assert {"loss", "box", "objectness", "prior", "learning_rate", "gradient_norm"} < lines[
        0
    ].keys()
    run = read_run(workdir)
    assert run["kind"] == "boxes"
    assert run["options"] == OPTIONS
    assert run["fit"] == {
        "steps": 12,
        "batch_size": 8,
        "seed": 0,
        "ema_decay": 0.0,
        "eval_every": 4,
        "best": {"metric": "score", "mode": "max", "patience": 0},
    }
    assert run["task"]["partners"] == 1
    assert run["code"].keys() == {
        f"tests.engine.box_task:box_task.<locals>.{name}"
        for name in ("init", "augment", "prepare", "forward", "loss", "metrics", "decode")
    }
    assert (workdir / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert list((workdir / "tensorboard").glob("events.out.tfevents.*"))
    best = max(fitted.history, key=lambda e: (e["metrics"]["score"], e["step"]))
    assert fitted.step == best["step"]
    restored = restore_weights(workdir)
    assert (restored.step, restored.history) == (fitted.step, fitted.history)
    assert state_digest(restored.variables) == state_digest(fitted.variables)
    latest = restore_weights(workdir, "latest")
    assert state_digest(latest.variables) == state_digest(fitted.state.variables)


def test_a_finished_run_says_so_and_gives_the_same(whole):
    workdir, fitted = whole
    said, before = [], (workdir / "metrics.jsonl").read_bytes()
    again = run_fit(workdir, log=said, options=OPTIONS)
    assert said == [f"the run in {workdir} is finished (12 steps)"]
    assert state_digest(again.state) == state_digest(fitted.state)
    assert state_digest(again.variables) == state_digest(fitted.variables)
    assert (workdir / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize("after", long_but([3, 7, 11], [7], [3]))
def test_an_interrupted_run_ends_with_the_same_bits(whole, tmp_path, after):
    with pytest.raises(InterruptedRunError):
        run_fit(tmp_path, stream=Breaking(BATCHES, after))
    # The process may die in the middle of a line, with lines after the last checkpoint.
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 999, "loss"')
    said = []
    resumed = run_fit(tmp_path, log=said)
    resuming = [f"resuming the run in {tmp_path} after step {after // 4 * 4}"] if after > 4 else []
    assert without_progress(said) == [*resuming, ALL]
    workdir, fitted = whole
    assert state_digest(resumed.state) == state_digest(fitted.state)
    assert resumed.history == fitted.history
    assert read_lines(tmp_path) == read_lines(workdir)


@pytest.mark.parametrize("number", slow_but([signal.SIGINT, signal.SIGTERM], [signal.SIGINT]))
def test_a_run_that_is_asked_to_stop_is_saved_and_resumes(whole_small, tmp_path, number, capfd):
    handlers = [signal.getsignal(x) for x in (signal.SIGINT, signal.SIGTERM)]
    stream = Acting(SMALL_BATCHES, 6, partial(signal.raise_signal, number))
    if number == signal.SIGINT:
        with pytest.raises(KeyboardInterrupt):
            run_small(tmp_path, stream=stream)
    else:
        assert not run_small(tmp_path, stream=stream).finished
    assert [signal.getsignal(x) for x in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert capfd.readouterr().err.count("stopping after this step") == 1
    saved = max(int(path.name) for path in (tmp_path / "checkpoints").glob("[0-9]*"))
    assert 4 < saved < 8, "between two evaluations"
    said = []
    resumed = run_small(tmp_path, log=said)
    assert f"resuming the run in {tmp_path} after step {saved}" in said
    assert state_digest(resumed.state) == state_digest(whole_small.state)


@pytest.fixture
def small_disk(tmp_path):
    """The folder of a disk of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small disk")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_run_resumes(whole_small, small_disk):
    filler = small_disk / "filler"

    def fill():
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1000))

    workdir = small_disk / "run"
    with pytest.raises(NoRoomError, match=rf"cannot write {workdir}.* \(No space left on device\)"):
        run_small(workdir, stream=Acting(SMALL_BATCHES, 11, fill))
    assert restore_weights(workdir, "latest").step in (4, 8)
    filler.unlink()
    resumed = run_small(workdir)
    assert state_digest(resumed.state) == state_digest(whole_small.state)
    assert [line["step"] for line in read_lines(workdir)] == list(range(1, 13))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_limit_on_the_size_of_files_is_one_line_and_the_run_resumes(whole_small, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size=0):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    try:
        message = rf"cannot write {tmp_path}.* \(File too large\): make room or raise the limit"
        with pytest.raises(NoRoomError, match=message):
            run_small(tmp_path, stream=Acting(SMALL_BATCHES, 11, limit))
    finally:
        limit(before[0])
    assert restore_weights(tmp_path, "latest").step in (4, 8)
    assert state_digest(run_small(tmp_path).state) == state_digest(whole_small.state)


@pytest.mark.slow
def test_a_run_saved_on_four_devices_between_evaluations_resumes_on_one(whole_small, tmp_path):
    options = {"eval_every": 12, "checkpoint_every": 3}
    with pytest.raises(InterruptedRunError):
        run_small(tmp_path, stream=Breaking(SMALL_BATCHES, 8), devices=4, **options)
    said = []
    resumed = run_small(tmp_path, log=said, **options)
    assert without_progress(said) == [f"resuming the run in {tmp_path} after step 6", ALL_OF_SMALL]
    for x, y in zip(
        jax.tree.leaves(jax.device_get(resumed.state)),
        jax.tree.leaves(jax.device_get(whole_small.state)),
        strict=True,
    ):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5)


class Slow(Stream):
    def __next__(self):
        time.sleep(0.2)
        return super().__next__()


def test_the_time_spent_waiting_for_data_is_written_and_shown(tmp_path):
    """Reading takes far longer than a step, but the first batches are read while it is compiled."""
    said = []
    run_small(tmp_path, stream=Slow(SMALL_BATCHES), validation=None, steps=7, log_every=7, log=said)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    waits = [line["data_wait"] for line in lines]
    assert min(waits) >= 0
    assert 0.5 < max(waits) <= 1, "of one step at least, whatever else the machine does"
    (line,) = [line for line in said if line.startswith("step 7/7")]
    assert 0 < int(re.search(r" images/s (\d+)% waiting for data", line)[1]) <= 100


def test_the_number_of_batches_kept_ready_does_not_change_the_result(whole_small):
    fitted = run_small(None, prefetch=1)
    assert state_digest(fitted.state) == state_digest(whole_small.state)
    with pytest.raises(InputError, match="prefetch is 0: give at least 1"):
        run_small(None, prefetch=0)


def test_a_trace_of_some_steps_is_written_and_the_result_is_the_same(whole_small, tmp_path):
    said = []
    fitted = run_small(tmp_path, profile=(5, 6), log=said)
    assert state_digest(fitted.state) == state_digest(whole_small.state)
    (line,) = [line for line in said if line.startswith("wrote the trace of steps 5 to 6 to ")]
    (trace,) = (tmp_path / "profile").rglob("*.trace.json.gz")
    assert f"open {trace} at https://ui.perfetto.dev" in line
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    steps = [x["args"]["step_num"] for x in events if x.get("name") == "train" and "args" in x]
    assert steps == ["5", "6"]


def test_a_resumed_run_traces_what_is_left(tmp_path):
    run_small(tmp_path, steps=8)
    said = []
    run_small(tmp_path, steps=10, extend=True, profile=(2, 8), log=said)
    assert "profile: the run is after step 8, so that steps 2 to 8 are over" in said
    assert not (tmp_path / "profile").exists()


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ((0, 3), r"profile is \(0, 3\): give steps of 1 to 12, the first one not after the last"),
        ((4, 3), "the first one not after the last"),
        ((3, 13), "give steps of 1 to 12"),
        ((3,), r"profile is \(3,\): give the first and the last step"),
        ("3:4", "profile is '3:4': give the first and the last step"),
        (3, "profile is 3: give the first and the last step"),
        ((3, 4), "profile is written into the workdir: give a workdir too"),
    ],
)
def test_steps_that_cannot_be_traced_are_an_error(profile, message):
    with pytest.raises(OptionError, match=message):
        run_small(None, profile=profile)


def test_another_run_is_an_error_that_shows_the_differences(whole):
    workdir, _ = whole
    different = r"\(options.new: \(absent\) -> 1; options.rate: 0.01 -> 0.02\)"
    with pytest.raises(InputError, match=different):
        run_fit(workdir, options={"rate": 0.02, "widths": (1, 2), "new": 1})
    with pytest.raises(InputError, match=r"\(fit.seed: 0 -> 1; fit.steps: 12 -> 24\)"):
        run_fit(workdir, options=OPTIONS, steps=24, seed=1)


@pytest.mark.parametrize("what", ["rate", "code"])
def test_what_has_no_name_is_compared_as_well(whole, what):
    workdir, _ = whole
    changes = {"options": OPTIONS}
    if what == "rate":
        changes["optimizer"] = optax.sgd(0.02, momentum=0.9)
        message = r"has another run \(the training step: it computes something else, by another"
    else:
        metrics = box_task().metrics
        changes["task"] = dataclasses.replace(box_task(), metrics=lambda *args: metrics(*args))
        message = r"task.metrics.object: .*box_task.<locals>.metrics. -> .*<lambda>"
    with pytest.raises(InputError, match=message):
        run_fit(workdir, **changes)


@pytest.mark.slow
def test_a_run_may_grow(whole_small, tmp_path):
    """The longer run goes on where the shorter ended, as if it had been that long."""
    run_small(tmp_path, steps=8)
    with pytest.raises(InputError, match=r"extend=True lets steps grow"):
        run_small(tmp_path, steps=12)
    log = []
    longer = run_small(tmp_path, steps=12, extend=True, log=log)
    assert without_progress(log) == [
        "the run grows from 8 to 12 steps",
        f"resuming the run in {tmp_path} after step 8",
        ALL_OF_SMALL,
    ]
    assert state_digest(longer.state) == state_digest(whole_small.state)
    assert [one["fit"]["steps"] for one in read_run(tmp_path)["extended"]] == [8]
    assert read_run(tmp_path)["fit"]["steps"] == 12
    again = run_small(tmp_path, steps=12)
    assert again.finished


def test_without_a_workdir_nothing_is_written_and_the_result_is_the_same(
    whole_small, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    plain = run_small(None, stream=iter(3 * SMALL_BATCHES))  # and no position of the data is needed
    assert state_digest(plain.state) == state_digest(whole_small.state)
    assert state_digest(plain.variables) == state_digest(whole_small.variables)
    assert (plain.step, plain.history, plain.finished) == (
        whole_small.step,
        whole_small.history,
        True,
    )
    assert list(tmp_path.iterdir()) == []


def test_data_that_end_too_early_are_an_error():
    with pytest.raises(InputError, match="the training data ended before the training did"):
        run_small(None, stream=iter(SMALL_BATCHES))


def test_a_run_starts_with_the_given_variables_and_without_validation_the_last_are_best(
    whole_small,
):
    """Those of another run, which the second part of one longer training would have."""
    given = jax.device_get(whole_small.variables)
    slow = optax.sgd(0.0)
    plain = run_small(None, optimizer=slow, variables=given, steps=1, validation=None)
    assert state_digest(plain.state.params) == state_digest(given["params"])
    assert plain.step == 1, "without validation the last is the best"
    assert state_digest(plain.variables) == state_digest(plain.state.variables)
    assert plain.history == []
    wrong = {**given, "params": {**given["params"], "extra": {"bias": np.zeros(3, "f4")}}}
    wrong["params"]["head"] = {"kernel": np.zeros((4, 6), "f4"), "bias": np.zeros(2, "f4")}
    with pytest.raises(
        InputError, match=r"head/kernel is float32\[4, 6\], and not float32\[4, 2\]"
    ):
        run_small(None, variables=wrong)


class Loader(Stream):
    """A stream with the attributes of a loader."""

    def __init__(self, batches, **attributes):
        super().__init__(batches)
        vars(self).update(attributes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stream": iter(BATCHES)}, "train is a list_iterator without get_state and set_state"),
        ({"stream": BATCHES}, "train is a list without __next__: give an iterator"),
        ({"stream": Loader(BATCHES, partners=3)}, "train.partners is 3 and task.partners is 1"),
        (
            {"stream": Loader(BATCHES, batch_size=16)},
            "train.batch_size is 16, and 1 processes with",
        ),
        ({"stream": Stream([{"image": 1}])}, "the batches of train have no field mask"),
        ({"stream": Stream(box_batches(1, 6))}, "batch size 6 is not divisible by the 4 devices"),
        ({"validation": None, "best": Best("score")}, "best is given without validation"),
        ({"options": {"a": np.zeros(3)}}, "options is no plain JSON"),
        ({"steps": 0}, "^steps is 0: give at least 1"),
        ({"eval_every": 0}, "^eval_every is 0: give at least 1"),
        ({"log_every": 0}, "^log_every is 0: give at least 1"),
        ({"keep": 1}, "^keep is 1: give at least 2"),
        ({"checkpoint_every": -1}, "^checkpoint_every is -1: give at least 0"),
        ({"ema_decay": 1.0}, "^ema_decay is 1.0: give at least 0 and less than 1"),
        ({"optimizer": [Phase(optax.sgd(0.1), freeze=("x",))]}, "^freeze: 'x' matches nothing"),
        ({"task": dataclasses.replace(box_task(), freeze=("y",))}, "^freeze: 'y' matches nothing"),
        ({"best": Best("acuracy")}, "^metric is 'acuracy', which is not measured"),
    ],
)
def test_wrong_options_are_found_before_anything_is_written(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        run_fit(tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_stops_early_and_stays_stopped(tmp_path):
    said = []
    task = small_task([0.1, 0.5, 0.5, 0.4, 0.9, 0.9])
    options = {"task": task, "steps": 24, "best": Best("score", patience=2)}
    fitted = run_small(tmp_path, **options)
    assert fitted.finished
    assert int(fitted.state.step) == 16, "two evaluations after the 0.5 of step 8"
    assert fitted.step == 12, "the later of the equal ones"
    again = run_small(tmp_path, log=said, **options)
    assert said == [f"the run in {tmp_path} is finished (16 steps)"]
    assert state_digest(again.state) == state_digest(fitted.state)


@pytest.mark.parametrize(
    ("bad_step", "last_good"),
    slow_but([(6, 4), (8, 4), (3, None)], [(6, 4)]),
)
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, bad_step, last_good):
    with pytest.raises(NonFiniteError, match=rf"step {bad_step}: .*first = nan") as caught:
        run_small(tmp_path, task=small_task(bad_step=bad_step), eval_every=4)
    place = tmp_path / "checkpoints" / str(last_good) if last_good else "none yet"
    assert str(caught.value).endswith(f"last good checkpoint: {place}")
    assert "square" not in caught.value.values
    assert [line["step"] for line in read_lines(tmp_path)] == list(range(1, bad_step))
    saved = {p.name for p in (tmp_path / "checkpoints").iterdir() if p.is_dir()}
    assert saved == ({str(last_good)} if last_good else set()), "the broken state was saved"


def test_a_validation_metric_that_is_not_finite_stops_the_run(tmp_path):
    task = small_task([0.1, float("nan"), 0.5])
    # In training the value is that of the step before, so that only validation sees the NaN.
    with pytest.raises(NonFiniteError, match=r"step \d+: score = nan; last good checkpoint: .*/4$"):
        run_small(tmp_path, task=task)
    assert not (tmp_path / "checkpoints" / "8").exists()


def plateau_phase():
    """The training loss of each step is looked at, because that is part of the step's state."""
    optimizer = optax.chain(
        optax.sgd(1e-3, momentum=0.9),
        optax.contrib.reduce_on_plateau(factor=0.1, patience=1, accumulation_size=1),
    )
    return [Phase(optimizer, schedule=lambda step: 1e-3)]


@pytest.mark.slow
def test_the_plateau_rule_resumes_where_it_was(tmp_path):
    whole = run_small(tmp_path / "whole", optimizer=plateau_phase())
    rates = [line["learning_rate"] for line in read_lines(tmp_path / "whole")]
    assert len(set(rates)) > 1, "the rate should fall in this run"
    with pytest.raises(InterruptedRunError):
        run_small(tmp_path / "cut", stream=Breaking(SMALL_BATCHES, 7), optimizer=plateau_phase())
    resumed = run_small(tmp_path / "cut", optimizer=plateau_phase())
    assert state_digest(resumed.state) == state_digest(whole.state)
    assert read_lines(tmp_path / "cut") == read_lines(tmp_path / "whole")


@pytest.mark.slow
def test_early_stopping_resumes_where_it_was(tmp_path):
    task = small_task([0.1, 0.5, 0.5, 0.4, 0.9, 0.9])
    options = {"task": task, "steps": 24, "best": Best("score", patience=2)}
    with pytest.raises(InterruptedRunError):
        run_small(tmp_path, stream=Breaking(SMALL_BATCHES, 14), **options)
    resumed = run_small(tmp_path, **options)
    assert int(resumed.state.step) == 16
    assert resumed.finished


@pytest.mark.slow
def test_curves_are_drawn_even_if_the_run_was_killed_at_its_end(tmp_path, monkeypatch):
    run_small(tmp_path, steps=4)
    assert not (tmp_path / "curves.png").exists()
    monkeypatch.setattr(loop, "draw_curves", draw_curves)
    run_small(tmp_path, steps=4)
    assert (tmp_path / "curves.png").exists()


@pytest.mark.parametrize(("history", "titles"), [([], ["loss"]), (None, ["loss", "score"])])
def test_without_evaluations_no_panel_of_the_curves_is_empty(
    tmp_path, monkeypatch, history, titles
):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    if history is None:
        history = [{"step": 1, "metrics": {"score": 0.5}}]
    draw_curves(tmp_path, Best("score"), history)
    assert [axes.get_title() for axes in drawn[0].axes] == titles


def test_a_network_beyond_all_memory_is_refused_before_anything_is_written(tmp_path):
    def init(key):
        return {"params": {"head": {"kernel": jnp.zeros((1000, 10**10))}}}

    message = (
        r"take .0,000 GB, .* largest array is params/head/kernel, float32\[1000, 10000000000\]"
    )
    with pytest.raises(InputError, match=message):
        init_state(dataclasses.replace(small_task(), init=init), optax.sgd(0.1), 0)
    with pytest.raises(InputError, match=message):
        run_small(tmp_path / "run", task=dataclasses.replace(small_task(), init=init))
    assert not (tmp_path / "run").exists()


def test_plain_lines_where_stderr_is_no_terminal(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    fit(
        small_task(),
        PHASE.optimizer,
        train=Stream(SMALL_BATCHES),
        validation=SMALL_VALIDATION,
        best=Best("score"),
        steps=12,
        seed=0,
        eval_every=4,
        log_every=6,
    )
    lines = [line for line in stream.getvalue().splitlines() if line.startswith("step ")]
    assert [line.split()[1] for line in lines] == ["4", "6/12", "8", "12/12", "12"]
    assert re.search(r"images/s \d+% waiting for data ETA 0:00:0", lines[1])


def test_a_run_is_evaluated_ten_times_if_nothing_is_said():
    fitted = run_small(None, steps=20, eval_every=None)
    assert [evaluation["step"] for evaluation in fitted.history] == list(range(2, 21, 2))
