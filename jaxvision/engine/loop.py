"""The training loop."""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax

from jaxvision.core import DataIterator, InputError, Task, TrainState
from jaxvision.engine.checkpoint import Checkpoints, has_checkpoints
from jaxvision.engine.curves import CURVES, draw_curves
from jaxvision.engine.errors import NonFiniteError
from jaxvision.engine.evaluate import make_evaluate, measured
from jaxvision.engine.history import History
from jaxvision.engine.journal import Journal
from jaxvision.engine.optimizer import Optimizer, optimizer_after
from jaxvision.engine.parallel import Parallel
from jaxvision.engine.preemption import Preemption
from jaxvision.engine.prefetch import prefetch
from jaxvision.engine.run import Run
from jaxvision.engine.update import abstract_state, init_state, make_updates
from jaxvision.engine.workdir import claim, lock

CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class Fitted:
    """What `fit` left.

    Attributes:
      state: after the last step.
      best: state of the best evaluation (the last state, if there was none); None if the run is
        not finished.
      history: of the evaluations.
      finished: False if the run was asked to stop before its end.
    """

    state: TrainState
    best: TrainState | None
    history: History
    finished: bool


def train_steps(
    update: Callable[[int, TrainState, Any], tuple[TrainState, dict[str, Any]]],
    state: TrainState,
    data: DataIterator,
    *,
    parallel: Parallel,
    start: int,
    stop: int,
) -> Iterator[tuple[int, TrainState, dict[str, Any], dict[str, Any]]]:
    """Steps start + 1 to stop.

    Args:
      update: from `make_updates`.
      state: after step `start`, from `Parallel.replicate` or a checkpoint; donated.
      data: the batches.
      parallel: the devices.
      start: steps done before.
      stop: the last step.
    Yields:
      (step, state, record, state of the data after it); nothing is fetched from the devices.
    """
    batches = prefetch(data, parallel)
    try:
        for step in range(start + 1, stop + 1):
            batch, data_state = next(batches)
            state, record = update(step, state, batch)
            yield step, state, record, data_state
    finally:
        batches.close()


def _train(
    steps: Iterator[tuple[int, TrainState, dict[str, Any], dict[str, Any]]],
    run: Run,
    history: History,
    *,
    over: Callable[[int, History], bool],
    measure: Callable[[TrainState], dict[str, float]] | None,
    journal: Journal,
    checkpoints: Checkpoints,
    preemption: Preemption,
) -> tuple[TrainState, History]:
    """Goes through the steps until the run is over or is asked to stop."""
    for step, state, record, data_state in steps:
        journal.add(step, record)
        stop = preemption.requested(step)
        if not (stop or run.saves_after(step)):
            continue
        metrics = {}
        if measure is not None and run.evaluates_after(step):
            journal.check()  # before time is spent on evaluating a broken network
            metrics = measure(state)
            wrong = {name: x for name, x in metrics.items() if not math.isfinite(x)}
            if wrong:
                raise NonFiniteError(step, wrong, checkpoints.last)
            history = [*history, {"step": step, "metrics": metrics}]
        journal.flush({f"validation/{name}": value for name, value in metrics.items()})
        checkpoints.save(state, data=data_state, history=history, config=run.config)
        if stop or over(step, history):
            break
    return state, history


def _check_starts(optimizers: Sequence[Optimizer], steps: int) -> None:
    starts = [optimizer.start for optimizer in optimizers]
    if starts[:1] != [0] or sorted(set(starts)) != starts or starts[-1] >= steps:
        raise InputError(
            f"the optimizers start after {starts} steps: give 0 first, and rising numbers up to "
            f"{steps - 1}"
        )


def _what_trains(optimizers: Sequence[Optimizer], params: Any) -> list[str]:
    """A line for each optimizer."""
    lines = [optimizer.selection.describe(params) for optimizer in optimizers]
    starts = [f"from step {optimizer.start + 1} on " for optimizer in optimizers]
    return lines if len(lines) == 1 else [a + b for a, b in zip(starts, lines, strict=True)]


def fit(
    task: Task,
    optimizers: Sequence[Optimizer],
    run: Run,
    *,
    train: DataIterator,
    validation: Iterable[Any] | None,
    parallel: Parallel,
    say: Callable[[str], None],
) -> Fitted:
    """Trains, or goes on with, the run in `run.workdir`.

    Resumes from the last sound checkpoint and ends with the same bits as a run that was never
    interrupted.

    Args:
      task: what to train.
      optimizers: how, one after the other: the first from step 0 on, each up to the next's start.
      run: how long, and where to.
      train: this process's parts of the global batches.
      validation: this process's parts of the batches of an evaluation, to be gone through again
        and again; None for none.
      parallel: the devices.
      say: shows a line to the user.
    Raises:
      InputError: settings that do not fit; the folder has another run, or another process in it.
      DamagedError: the folder has checkpoints, but no sound one.
      NonFiniteError: the loss, a metric, the gradient or a parameter is NaN or infinite; names
        the last checkpoint.
    """
    parallel.check_batch_size(run.batch_size)
    _check_starts(optimizers, run.steps)

    def like(step: int) -> TrainState:
        return abstract_state(task, optimizer_after(optimizers, step))

    # What the head alone comes to is no reason to stop before all has trained.
    over = partial(run.over, since=optimizers[-1].start)
    beginning = like(0)
    trains = _what_trains(optimizers, beginning.params)
    if validation is not None:
        # Before anything is written: can the data be read, is the metric there?
        run.criterion.check(measured(task, beginning, next(iter(validation))))
    folder = run.workdir / CHECKPOINTS
    writes = jax.process_index() == 0
    with (
        lock(run.workdir) if writes else contextlib.nullcontext(),
        Preemption() as preemption,
        Checkpoints(
            folder, criterion=run.criterion, parallel=parallel, keep=run.keep
        ) as checkpoints,
    ):
        claim(
            run.workdir,
            run.config,
            defaults=run.defaults,
            started=has_checkpoints(folder),
            writes=writes,
        )
        restored = checkpoints.restore_latest(like)
        if restored is None:
            state = parallel.replicate(init_state(task, optimizers[0], run.seed))
            history = []
        else:
            state, history = restored.state, restored.history
            train.set_state(restored.data)
        start = int(state.step)
        if over(start, history):
            say(f"the run in {run.workdir} is finished ({start} steps)")
        else:
            if start:
                say(f"resuming the run in {run.workdir} after step {start}")
            for line in trains:
                say(line)
            update = make_updates(task, optimizers, seed=run.seed, parallel=parallel)
            evaluate = make_evaluate(task, parallel=parallel)

            def measure(state: TrainState) -> dict[str, float]:
                return evaluate(state, validation).metrics

            steps = train_steps(
                update, state, train, parallel=parallel, start=start, stop=run.steps
            )
            with (
                contextlib.closing(steps),
                Journal(run, start=start, writes=writes, checkpoints=checkpoints) as journal,
            ):
                state, history = _train(
                    steps,
                    run,
                    history,
                    over=over,
                    measure=None if validation is None else measure,
                    journal=journal,
                    checkpoints=checkpoints,
                    preemption=preemption,
                )
        finished = over(int(state.step), history)
        # Also of a run that was killed at its end, before its curves were drawn.
        if writes and not (start == int(state.step) and (run.workdir / CURVES).exists()):
            draw_curves(run, history)
        best = checkpoints.restore_best(like).state if finished else None
    return Fitted(state, best, history, finished)
