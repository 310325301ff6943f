"""The loop: resumed runs, the journal, stopping early, on other devices, on bad numbers."""

import dataclasses
import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvision.cli.config import default_config
from jaxvision.core import InputError
from jaxvision.engine import (
    Criterion,
    NonFiniteError,
    Optimizer,
    Parallel,
    Run,
    fit,
    make_optimizer,
    state_digest,
)
from tests.engine.box_task import box_batches, box_task
from tests.engine.stream import Breaking, InterruptedRunError, Stream
from tests.marks import slow_but

OPTIMIZER = Optimizer(
    optax.with_extra_args_support(optax.sgd(0.01, momentum=0.9)), lambda step: 0.01
)
ALL_TRAIN = "all 1,650 parameters train"
BATCHES = box_batches(5, 8)
VALIDATION = [batch.replace(partners=None) for batch in box_batches(2, 8, seed=1)]


def make_run(workdir, **changes):
    defaults = {
        "config": {"rate": 0.01, "widths": (1, 2)},
        "steps": 12,
        "batch_size": 8,
        "seed": 0,
        "criterion": Criterion("score"),
        "eval_every": 4,
    }
    return Run(workdir=workdir, **{**defaults, **changes})


def run_fit(
    workdir,
    *,
    task=None,
    optimizers=(OPTIMIZER,),
    stream=None,
    devices=4,
    said=None,
    validation=True,
    **changes,
):
    return fit(
        task or box_task(),
        optimizers,
        make_run(workdir, **changes),
        train=stream or Stream(BATCHES),
        validation=VALIDATION if validation else None,
        parallel=Parallel("pmap", jax.devices()[:devices]),
        say=(said if said is not None else []).append,
    )


def read_lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was never interrupted: (folder, what fit gave)."""
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, run_fit(workdir)


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
    assert json.loads((workdir / "config.json").read_text()) == {"rate": 0.01, "widths": [1, 2]}
    assert (workdir / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert list((workdir / "tensorboard").glob("events.out.tfevents.*"))
    best = max(fitted.history, key=lambda e: (e["metrics"]["score"], e["step"]))
    assert int(fitted.best.step) == best["step"]


def test_a_finished_run_says_so_and_gives_the_same(whole):
    workdir, fitted = whole
    said, before = [], (workdir / "metrics.jsonl").read_bytes()
    again = run_fit(workdir, said=said)
    assert said == [f"the run in {workdir} is finished (12 steps)"]
    assert state_digest(again.state) == state_digest(fitted.state)
    assert state_digest(again.best) == state_digest(fitted.best)
    assert (workdir / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize("after", slow_but([3, 7, 11], [7]))
def test_an_interrupted_run_ends_with_the_same_bits(whole, tmp_path, after):
    with pytest.raises(InterruptedRunError):
        run_fit(tmp_path, stream=Breaking(BATCHES, after))
    # The process may die in the middle of a line, with lines after the last checkpoint.
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 999, "loss"')
    said = []
    resumed = run_fit(tmp_path, said=said)
    resuming = [f"resuming the run in {tmp_path} after step {after // 4 * 4}"] if after > 4 else []
    assert said == [*resuming, ALL_TRAIN]
    workdir, fitted = whole
    assert state_digest(resumed.state) == state_digest(fitted.state)
    assert resumed.history == fitted.history
    assert read_lines(tmp_path) == read_lines(workdir)


def test_a_run_saved_on_four_devices_resumes_on_one(whole, tmp_path):
    with pytest.raises(InterruptedRunError):
        run_fit(tmp_path, stream=Breaking(BATCHES, 9), devices=4)
    resumed = run_fit(tmp_path, devices=1)
    _, fitted = whole
    for x, y in zip(
        jax.tree.leaves(jax.device_get(resumed.state)),
        jax.tree.leaves(jax.device_get(fitted.state)),
        strict=True,
    ):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5)


def test_another_config_is_an_error_that_shows_the_difference(whole):
    workdir, _ = whole
    with pytest.raises(InputError, match=r"\(new: '\(absent\)' -> 1; rate: 0.01 -> 0.02\)"):
        run_fit(workdir, config={"rate": 0.02, "widths": (1, 2), "new": 1})


def test_without_validation_the_last_is_the_best(tmp_path):
    fitted = run_fit(tmp_path, validation=False)
    assert int(fitted.best.step) == 12
    assert fitted.history == []


def task_with_metric(values):
    """The box task, with a validation metric that goes through the values, by step / 4."""
    task = box_task()
    values = jnp.asarray(values, jnp.float32)

    def forward(variables, batch, *, keys, step, train):
        outputs, statistics = task.forward(variables, batch, keys=keys, step=step, train=train)
        value = values[step // 4 - 1]
        return {**outputs, "value": jnp.broadcast_to(value, batch.mask.shape)}, statistics

    def metrics(outputs, example):
        return {"score": (outputs["value"], jnp.float32(1))}

    return dataclasses.replace(task, forward=forward, metrics=metrics)


def test_stops_early_and_stays_stopped(tmp_path):
    said = []
    task = task_with_metric([0.1, 0.5, 0.5, 0.4, 0.9, 0.9])
    options = {"task": task, "steps": 24, "criterion": Criterion("score", patience=2)}
    fitted = run_fit(tmp_path, **options)
    assert fitted.finished
    assert int(fitted.state.step) == 16, "two evaluations after the 0.5 of step 8"
    assert int(fitted.best.step) == 12, "the later of the equal ones"
    again = run_fit(tmp_path, said=said, **options)
    assert said == [f"the run in {tmp_path} is finished (16 steps)"]
    assert state_digest(again.state) == state_digest(fitted.state)


def task_breaking_at(bad_step):
    """The box task, with one loss term that is NaN from a step on."""
    task = box_task()

    def loss(outputs, example, *, key, step):
        terms = task.loss(outputs, example, key=key, step=step)
        total, weight = terms["prior"]
        terms["prior"] = (jnp.where(step + 1 >= bad_step, jnp.nan, total), weight)
        return terms

    return dataclasses.replace(task, loss=loss)


@pytest.mark.parametrize(
    ("bad_step", "last_good"),
    [(6, 4), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((8, 4), (3, None)))],
)
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, bad_step, last_good):
    with pytest.raises(NonFiniteError, match=rf"step {bad_step}: .*prior = nan") as caught:
        run_fit(tmp_path, task=task_breaking_at(bad_step), eval_every=4)
    place = tmp_path / "checkpoints" / str(last_good) if last_good else "none yet"
    assert str(caught.value).endswith(f"last good checkpoint: {place}")
    assert "box" not in caught.value.values
    assert [line["step"] for line in read_lines(tmp_path)] == list(range(1, bad_step))
    saved = {p.name for p in (tmp_path / "checkpoints").iterdir() if p.is_dir()}
    assert saved == ({str(last_good)} if last_good else set()), "the broken state was saved"


def test_a_validation_metric_that_is_not_finite_stops_the_run(tmp_path):
    task = task_with_metric([0.1, float("nan"), 0.5])
    # In training the value is that of the step before, so that only validation sees the NaN.
    with pytest.raises(NonFiniteError, match=r"step \d+: score = nan; last good checkpoint: .*/4$"):
        run_fit(tmp_path, task=task)
    assert not (tmp_path / "checkpoints" / "8").exists()


def plateau_optimizer():
    config = default_config().optimizer
    config.learning_rate, config.schedule.name = 1e-3, "plateau"
    config.schedule.window, config.schedule.patience = 1 / 12, 1
    return make_optimizer(config, steps=12)


@pytest.mark.slow
def test_the_plateau_rule_resumes_where_it_was(tmp_path):
    whole = run_fit(tmp_path / "whole", optimizers=(plateau_optimizer(),))
    rates = [line["learning_rate"] for line in read_lines(tmp_path / "whole")]
    assert len(set(rates)) > 1, "the rate should fall in this run"
    with pytest.raises(InterruptedRunError):
        run_fit(tmp_path / "cut", stream=Breaking(BATCHES, 7), optimizers=(plateau_optimizer(),))
    resumed = run_fit(tmp_path / "cut", optimizers=(plateau_optimizer(),))
    assert state_digest(resumed.state) == state_digest(whole.state)
    assert read_lines(tmp_path / "cut") == read_lines(tmp_path / "whole")


def test_early_stopping_resumes_where_it_was(tmp_path):
    task = task_with_metric([0.1, 0.5, 0.5, 0.4, 0.9, 0.9])
    options = {"task": task, "steps": 24, "criterion": Criterion("score", patience=2)}
    with pytest.raises(InterruptedRunError):
        run_fit(tmp_path, stream=Breaking(BATCHES, 14), **options)
    resumed = run_fit(tmp_path, **options)
    assert int(resumed.state.step) == 16
    assert resumed.finished


def test_curves_are_drawn_even_if_the_run_was_killed_at_its_end(tmp_path):
    run_fit(tmp_path)
    (tmp_path / "curves.png").unlink()
    run_fit(tmp_path)
    assert (tmp_path / "curves.png").exists()


def test_wrong_metric_is_named(tmp_path):
    with pytest.raises(InputError, match=r"best\.metric is 'acuracy', which is not measured"):
        run_fit(tmp_path, criterion=Criterion("acuracy"))


@pytest.mark.parametrize(
    ("name", "value"), [("steps", 0), ("eval_every", 0), ("keep", 1), ("checkpoint_every", -1)]
)
def test_figures_out_of_range(tmp_path, name, value):
    with pytest.raises(InputError, match=f"config.{name} is {value}: give at least"):
        make_run(tmp_path, **{name: value})


def test_further_checkpoints_between_evaluations(tmp_path):
    options = {"eval_every": 12, "checkpoint_every": 3}
    with pytest.raises(InterruptedRunError):
        run_fit(tmp_path, stream=Breaking(BATCHES, 8), **options)
    said = []
    run_fit(tmp_path, said=said, **options)
    assert said == [f"resuming the run in {tmp_path} after step 6", ALL_TRAIN]


def test_plain_lines_where_stderr_is_no_terminal(tmp_path, monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    run_fit(tmp_path, log_every=6)
    lines = [line for line in stream.getvalue().splitlines() if line.startswith("step ")]
    assert [line.split()[1] for line in lines] == ["4", "6/12", "8", "12/12", "12"]
    assert "images/s ETA 0:00:0" in lines[1]
