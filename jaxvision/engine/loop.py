"""The training loop."""

import pathlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxvision.core import DataIterator, InputError, Task, TrainState, divide
from jaxvision.engine.checkpoint import Checkpoints
from jaxvision.engine.curves import draw_curves
from jaxvision.engine.history import Criterion, History
from jaxvision.engine.journal import Journal, NonFiniteError
from jaxvision.engine.optimizer import Optimizer
from jaxvision.engine.parallel import Parallel
from jaxvision.engine.preemption import Preemption
from jaxvision.engine.prefetch import prefetch
from jaxvision.engine.progress import Progress, passing
from jaxvision.engine.update import init_state, make_evaluate, make_update
from jaxvision.engine.workdir import claim

CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class Run:
    """What `fit` is to do.

    Attributes:
      workdir: folder of the run, the same for all processes.
      config: everything that makes the run what it is, as plain JSON; saved and compared.
      steps: updates in all.
      batch_size: of the global batch.
      seed: of the initialisation and of all randomness in training.
      criterion: which evaluation is best, and when to stop early.
      eval_every: steps between evaluations; each one is followed by a checkpoint.
      checkpoint_every: steps between further checkpoints; 0 for none.
      keep: last checkpoints to keep, beside the best.
      log_every: steps between two plain lines of progress.
    """

    workdir: pathlib.Path
    config: dict[str, Any]
    steps: int
    batch_size: int
    seed: int
    criterion: Criterion
    eval_every: int
    checkpoint_every: int = 0
    keep: int = 2
    log_every: int = 100

    def __post_init__(self) -> None:
        for name, least in (
            ("steps", 1),
            ("eval_every", 1),
            ("checkpoint_every", 0),
            ("keep", 1),
            ("log_every", 1),
        ):
            if getattr(self, name) < least:
                raise InputError(f"config.{name} is {getattr(self, name)}: give at least {least}")


@dataclass(frozen=True)
class Fitted:
    """What `fit` left.

    Attributes:
      state: after the last step.
      best: state of the best evaluation (the last one, if there was none).
      history: of the evaluations.
      finished: False if the run was asked to stop before its end.
    """

    state: TrainState
    best: TrainState | None
    history: History
    finished: bool


def evaluate(
    step: Callable[[TrainState, Any], Any],
    state: TrainState,
    data: Iterable[Any],
    *,
    parallel: Parallel,
    label: str = "evaluating",
) -> dict[str, float]:
    """The metrics over all examples of some data.

    Args:
      step: from `make_evaluate`.
      state: on the devices.
      data: this process's parts of the global batches, filler masked.
      parallel: the devices.
      label: shown while it runs.
    Returns:
      name -> total / weight, added up in float64.
    """
    sums: dict[str, np.ndarray] = {}
    waiting: list[Any] = []

    def collect() -> None:
        for name, pair in jax.device_get(waiting.pop(0)).items():
            sums[name] = sums.get(name, np.zeros(2)) + np.array(pair, np.float64)

    for batch in passing(data, label, visible=jax.process_index() == 0):
        waiting.append(step(state, parallel.shard(batch)))
        if len(waiting) > 2:  # one is computed while the next is read
            collect()
    while waiting:
        collect()
    return {name: float(divide(total, weight)) for name, (total, weight) in sums.items()}


def train_steps(
    update: Callable[[TrainState, Any], tuple[TrainState, dict[str, Any]]],
    state: TrainState,
    data: DataIterator,
    *,
    parallel: Parallel,
    start: int,
    stop: int,
) -> Iterator[tuple[int, TrainState, dict[str, Any], dict[str, Any]]]:
    """Steps start + 1 to stop.

    Args:
      update: from `make_update`.
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
            state, record = update(state, batch)
            yield step, state, record, data_state
    finally:
        batches.close()


def fit(
    task: Task,
    optimizer: Optimizer,
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
      optimizer: how.
      run: how long, and where to.
      train: this process's parts of the global batches.
      validation: this process's parts of the batches of an evaluation; None for none.
      parallel: the devices.
      say: shows a line to the user.
    Raises:
      InputError: settings that do not fit; the folder has another run.
      DamagedError: the folder has checkpoints, but no sound one.
      NonFiniteError: the loss, a metric or the gradient is NaN or infinite; names the last
        checkpoint.
    """
    first_process = jax.process_index() == 0
    parallel.check_batch_size(run.batch_size)
    claim(run.workdir, run.config, writes=first_process)
    parallel.barrier("workdir claimed")
    checkpoints = Checkpoints(
        run.workdir / CHECKPOINTS, criterion=run.criterion, parallel=parallel, keep=run.keep
    )
    state = init_state(task, optimizer, run.seed)
    history: History = []
    start = 0
    restored = checkpoints.restore_latest(state)
    if restored is None:
        state = parallel.replicate(state)
    else:
        state, history, start = restored.state, restored.history, restored.step
        train.set_state(restored.data)

    def over(step: int) -> bool:
        return step >= run.steps or run.criterion.stalled(history)

    def best(final: TrainState) -> TrainState:
        found = checkpoints.restore_best(final)
        return final if found is None else found.state

    if over(start):
        say(f"the run in {run.workdir} is finished ({start} steps)")
        return Fitted(state, best(state), history, True)
    if start:
        say(f"resuming the run in {run.workdir} after step {start}")

    update = make_update(task, optimizer, seed=run.seed, parallel=parallel)
    evaluation = make_evaluate(task, parallel=parallel)
    progress = Progress(
        start=start,
        steps=run.steps,
        batch_size=run.batch_size,
        every=run.log_every,
        visible=first_process,
    )
    journal = Journal(
        run.workdir,
        start=start,
        progress=progress,
        writes=first_process,
        shown=("loss", run.criterion.metric),
    )
    stopped = False
    with Preemption() as preemption:
        steps = train_steps(update, state, train, parallel=parallel, start=start, stop=run.steps)
        try:
            for step, state, record, data_state in steps:
                journal.add(step, record)
                stopped = preemption.requested(step)
                evaluates = validation is not None and (
                    step % run.eval_every == 0 or step == run.steps
                )
                saves = (
                    evaluates
                    or stopped
                    or step in (run.steps,)
                    or (run.checkpoint_every and step % run.checkpoint_every == 0)
                )
                if not saves:
                    continue
                extra = {}
                if evaluates:
                    journal.check()
                    metrics = evaluate(
                        evaluation, state, validation, parallel=parallel, label="validating"
                    )
                    run.criterion.check(metrics)
                    history = [*history, {"step": step, "metrics": metrics}]
                    extra = {f"validation/{name}": value for name, value in metrics.items()}
                journal.flush(extra)
                checkpoints.save(state, data=data_state, history=history, config=run.config)
                if evaluates:
                    shown = " ".join(f"{name} {value:.4f}" for name, value in metrics.items())
                    progress.say(f"step {step} validation {shown}")
                if stopped or over(step):
                    break
        except NonFiniteError as error:
            last = checkpoints.last_step
            place = f"checkpoint {last} in {checkpoints.folder}" if last else "none yet"
            raise NonFiniteError(error.step, error.values, last_good=place) from error
        finally:
            steps.close()
            journal.close()
            checkpoints.wait()
    finished = over(int(state.step))
    best_state = best(state) if finished else None
    if first_process:
        best_step = run.criterion.ranked(history)[0] if history else None
        draw_curves(run.workdir, metric=run.criterion.metric, best_step=best_step)
    checkpoints.close()
    return Fitted(state, best_state, history, finished)
