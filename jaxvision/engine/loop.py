"""The training loop."""

import contextlib
import dataclasses
import math
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import jax
import optax
from jax import Array

from jaxvision.core import DataIterator, InputError, OptionError, Task, TrainState, check_range
from jaxvision.core.describe import JSON
from jaxvision.engine.checkpoint import (
    CHECKPOINTS,
    Checkpoints,
    Restored,
    Weights,
    check_finite,
    has_checkpoints,
)
from jaxvision.engine.curves import CURVES, draw_curves
from jaxvision.engine.errors import NonFiniteError
from jaxvision.engine.evaluation import check_targets, make_evaluate, metric_names
from jaxvision.engine.history import Best, History, ranked
from jaxvision.engine.journal import Journal
from jaxvision.engine.keys import seed_array
from jaxvision.engine.parallel import Parallel
from jaxvision.engine.phases import Phase, Stage, stage_after, stages_of
from jaxvision.engine.plan import Plan
from jaxvision.engine.preemption import Preemption
from jaxvision.engine.prefetch import Peeked, Waiting, prefetch
from jaxvision.engine.profile import PROFILE, Profile, check_profile
from jaxvision.engine.progress import log as log_to_stderr
from jaxvision.engine.traced_step import global_shapes, step_digest
from jaxvision.engine.update import (
    Record,
    StagedUpdate,
    abstract_state,
    check_state,
    init_state,
    place_state,
)
from jaxvision.engine.workdir import as_json, claim, describe_fit, describe_run, lock, read_run

Log = Callable[[str], None]

Steps = Iterator[tuple[int, TrainState, Record, Any]]


@dataclass(frozen=True)
class Fitted:
    """The result of a training.

    Attributes:
      state: after the last step, on the devices; `Parallel.fetch` copies it to the host whole.
      variables: those of the best evaluation (of the last step, if there is none), on the devices;
        their exponential moving average, if there is one. None if the training is not finished.
      step: of `variables`; None if the training is not finished.
      history: of the evaluations.
      finished: False if the training was asked to stop before its end, by SIGTERM.
    """

    state: TrainState
    variables: dict[str, Any] | None
    step: int | None
    history: History
    finished: bool


def train_steps(
    update: Callable[[TrainState, Any, Array], tuple[TrainState, Record]],
    state: TrainState,
    data: DataIterator,
    *,
    seed: int,
    parallel: Parallel,
    start: int = 0,
    stop: int,
    depth: int = 2,
    waiting: Waiting | None = None,
) -> Steps:
    """Runs the steps start + 1 to stop.

    Args:
      update: from `make_update`.
      state: after step `start`, from `Parallel.replicate` or a checkpoint; donated.
      data: the batches.
      seed: of all randomness in the steps.
      parallel: the devices.
      start: steps done before.
      stop: the last step.
      depth: batches kept ready on the devices.
      waiting: gets the time that is spent waiting for data.
    Yields:
      (step, state, record, state of the data after it); nothing is fetched from the devices.
    """
    replicated_seed = parallel.replicate(seed_array(seed))
    data = data if isinstance(data, Peeked) else Peeked(data)
    batches = prefetch(data, parallel, depth=depth, waiting=waiting)
    try:
        for step in range(start + 1, stop + 1):
            batch, data_state = next(batches)
            with jax.profiler.StepTraceAnnotation("train", step_num=step):
                state, record = update(state, batch, replicated_seed)
            yield step, state, record, data_state
    finally:
        batches.close()


class _Store(Protocol):
    """Where a training keeps its states: `Checkpoints`, or `_Memory`."""

    last: pathlib.Path | None

    def save(self, state: TrainState, *, data: Any, history: History, run: Any) -> None: ...

    def restore_latest(self, like: Any) -> Restored | None: ...

    def restore_weights(self, step: int | str = "best") -> Weights | None: ...


@dataclass
class _Memory:
    """Keeps the best variables of a training that writes nothing, on the host."""

    best: Best | None
    parallel: Parallel
    last: pathlib.Path | None = None
    kept: Weights | None = None

    def save(self, state: TrainState, *, data: Any, history: History, run: Any) -> None:
        """Keeps the variables if they are the best so far, or nothing says which are."""
        host = self.parallel.fetch(state.replace(opt_state=()))
        check_finite(host, None)
        step = int(host.step)
        if (ranked(self.best, history) or [step])[0] == step:
            self.kept = Weights(host.eval_variables, step, history)

    def restore_latest(self, like: Any) -> Restored | None:
        """There is nothing to go on with."""
        del like
        return None

    def restore_weights(self, step: int | str = "best") -> Weights | None:
        """The best variables, on the devices."""
        assert self.kept is not None
        return self.kept._replace(variables=self.parallel.replicate(self.kept.variables))


@dataclass(frozen=True)
class _Training:
    """A training whose options are checked.

    Attributes:
      task: what is trained.
      stages: the phases with their places.
      plan: when it evaluates, saves and ends.
      data: the batches.
      validation: batches of an evaluation, or None.
      batch_size: of the global batch.
      seed: of all randomness.
      ema_decay: of the moving average.
      accumulate: number of parts of the batch, one after the other.
      shard_state: whether the optimizer's state and the EMA lie in pieces.
      log_every: steps between two plain lines.
      prefetch: batches kept ready on the devices.
      profile: (the first, the last) step of which a trace is written, or None.
      parallel: the devices.
      log: shows a line to the user.
      writes: whether this process is the first one.
      run: the description of the run; {} where nothing is written.
    """

    task: Task
    stages: tuple[Stage, ...]
    plan: Plan
    data: Peeked
    validation: Iterable[Any] | None
    batch_size: int
    seed: int
    ema_decay: float
    accumulate: int
    shard_state: bool
    log_every: int
    prefetch: int
    profile: tuple[int, int] | None
    parallel: Parallel
    log: Log
    writes: bool
    run: dict[str, JSON] = field(default_factory=dict)

    def like(self, step: int) -> TrainState:
        """Shapes and dtypes of the state after a step."""
        phase = stage_after(self.stages, step).phase
        return abstract_state(self.task, phase, ema_decay=self.ema_decay)

    def placed_like(self, step: int) -> TrainState:
        """The same, with where each array lies on the devices."""
        like = self.like(step)
        return jax.tree.map(
            lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
            like,
            self.parallel.shardings(like, in_pieces=self.shard_state),
        )

    def what_is_trained(self) -> list[str]:
        """A line for each phase."""
        params = self.like(0).params
        lines = [stage.phase.selection.describe(params) for stage in self.stages]
        if len(lines) == 1:
            return lines
        starts = [f"from step {stage.start + 1} on " for stage in self.stages]
        return [start + line for start, line in zip(starts, lines, strict=True)]

    def train(
        self,
        state: TrainState,
        history: History,
        *,
        workdir: pathlib.Path | None,
        store: _Store,
        stop_requested: Callable[[int], bool],
    ) -> tuple[TrainState, History]:
        """Runs the remaining steps, until the training is over or is asked to stop."""
        start, plan = int(state.step), self.plan
        update = StagedUpdate(
            self.task,
            self.stages,
            parallel=self.parallel,
            ema_decay=self.ema_decay,
            accumulate=self.accumulate,
            shard_state=self.shard_state,
            start=start,
            log=self.log,
        )
        evaluate = make_evaluate(self.task, parallel=self.parallel, log=self.log)
        waiting = Waiting()
        steps = train_steps(
            update,
            state,
            self.data,
            seed=self.seed,
            parallel=self.parallel,
            start=start,
            stop=plan.steps,
            depth=self.prefetch,
            waiting=waiting,
        )
        journal = Journal(
            workdir if self.writes else None,
            start=start,
            steps=plan.steps,
            batch_size=self.batch_size,
            shown=("loss", *(() if plan.best is None else (plan.best.metric,))),
            log_every=self.log_every,
            log=self.log,
            visible=self.writes,
            last_good=lambda: store.last,
            waiting=waiting,
        )
        profile = Profile(
            self.profile if self.writes else None,
            (workdir or pathlib.Path()) / PROFILE,
            start=start,
            log=self.log,
        )
        with contextlib.closing(steps), journal, profile:
            profile.after(start, state)
            for step, state, record, data_state in steps:
                journal.add(step, record)
                profile.after(step, state)
                stop = stop_requested(step)
                if not (stop or plan.saves_after(step)):
                    continue
                metrics = {}
                if self.validation is not None and plan.evaluates_after(step):
                    journal.check()  # before time is spent on evaluating a broken network
                    variables = state.eval_variables
                    if self.shard_state:
                        variables = self.parallel.whole(variables)
                    metrics = evaluate(variables, self.validation).metrics
                    del variables
                    wrong = {name: x for name, x in metrics.items() if not math.isfinite(x)}
                    if wrong:
                        raise NonFiniteError(step, wrong, store.last)
                    history = [*history, {"step": step, "metrics": metrics}]
                journal.flush({f"validation/{name}": value for name, value in metrics.items()})
                store.save(state, data=data_state, history=history, run=self.run)
                if stop or plan.over(step, history):
                    break
        return state, history


def _check_data(task: Task, train: Any, *, stateful: bool) -> None:
    if not hasattr(train, "__next__"):
        raise OptionError(
            "train", f"train is a {type(train).__name__} without __next__: give an iterator"
        )
    if stateful and not (hasattr(train, "get_state") and hasattr(train, "set_state")):
        raise OptionError(
            "train",
            f"train is a {type(train).__name__} without get_state and set_state, so a run in a "
            "workdir could not be resumed: give data with them, as jaxvision.data.TrainLoader, or "
            "no workdir",
        )
    partners = getattr(train, "partners", None)
    if partners is not None and partners != task.partners:
        raise OptionError(
            "partners",
            f"train.partners is {partners} and task.partners is {task.partners}: the augmentation "
            f"needs {task.partners} other examples beside each one, so give partners="
            f"{task.partners} to the training data",
        )


def _batch_size(train: Any, first: Any) -> int:
    """The size of the global batch."""
    if getattr(first, "mask", None) is None:
        raise OptionError("train", "the batches of train have no field mask: give bool[B]")
    counted = len(first.mask) * jax.process_count()
    given = getattr(train, "batch_size", None)
    if given is not None and given != counted:
        raise OptionError(
            "batch_size",
            f"train.batch_size is {given}, and {jax.process_count()} processes with "
            f"{len(first.mask)} examples each make {counted}: give the size of the global batch",
        )
    return counted


def fit(
    task: Task,
    optimizer: optax.GradientTransformation | Sequence[Phase],
    *,
    train: DataIterator,
    steps: int,
    seed: int,
    workdir: str | pathlib.Path | None = None,
    validation: Iterable[Any] | None = None,
    variables: Mapping[str, Any] | None = None,
    best: Best | None = None,
    ema_decay: float = 0.0,
    accumulate: int = 1,
    shard_state: bool = False,
    eval_every: int | None = None,
    checkpoint_every: int = 0,
    keep: int = 2,
    log_every: int = 100,
    prefetch: int = 2,
    profile: tuple[int, int] | None = None,
    parallel: Parallel | None = None,
    log: Log | None = None,
    options: Mapping[str, JSON] | None = None,
    extend: bool = False,
    command_line: Mapping[str, JSON] | None = None,
) -> Fitted:
    """Trains a task, or goes on with the run in `workdir`.

    A run in a workdir resumes from its last sound checkpoint, and ends with the same bits as one
    that was never interrupted. Before it resumes, the description of the task, the options and the
    traced training step are compared with those of the run. Without a workdir nothing is written.

    Args:
      task: what is trained.
      optimizer: an `optax.GradientTransformation` for all steps, or a sequence of `Phase`, one
        after the other. What the task freezes is trained in none.
      train: this process's parts of the global batches. In a workdir it has `get_state` and
        `set_state`. If it has the attributes `batch_size` (of the global batch) and `partners`,
        they are checked.
      steps: updates in all.
      seed: of the initialisation and of all randomness in the steps.
      workdir: folder of the run, the same for all processes.
      validation: this process's parts of the batches of an evaluation, which is iterated again
        for each one; see `evaluate`. None for no evaluation.
      variables: the network's variables to start with, such as pretrained ones; None: those of
        `task.init`. A resumed run does not look at them.
      best: which evaluation is best, and when to stop early; None: the last step is the best.
      ema_decay: of the exponential moving average of all variables, which is evaluated instead of
        them; 0: there is none. See `make_update`.
      accumulate: number of parts of the batch, one after the other, whose gradients are added
        before an update; with more parts a step takes less memory. See `make_update`.
      shard_state: whether the optimizer's state and the EMA lie in pieces, one on each device, for
        `Parallel("shard_map")`. The results and the checkpoints are the same. See `make_update`.
      eval_every: steps between evaluations, each of which is followed by a checkpoint; None: a
        tenth of the steps.
      checkpoint_every: steps between further checkpoints; 0 for none.
      keep: how many of the last checkpoints to keep, beside the best; at least 2.
      log_every: steps between two lines of progress, where there is no progress bar.
      prefetch: batches that are read and kept ready on the devices before they are needed; at least
        1. More bridge uneven reading, and take the memory of as many batches.
      profile: (the first, the last) step of which JAX's profiler writes a trace into the folder
        "profile" of the workdir, in the first process; None for none. In the first steps it has the
        compilation too.
      parallel: the devices; None for all devices.
      log: shows a line to the user; None prints it on stderr, in the first process.
      options: plain JSON that is recorded and compared besides, as constants of your own or the
        version of the data.
      extend: whether the run in the workdir may get more steps than it had; the training step,
        which depends on the steps through a schedule, is then not compared.
      command_line: plain JSON that is kept in run.json, and not compared.
    Raises:
      OptionError: an option that is out of range or does not fit the others.
      InputError: the workdir has another run, or another process in it.
      DamagedError: the workdir has checkpoints, but no sound one.
      NonFiniteError: the loss, a metric, the gradient or a parameter is NaN or infinite; names
        the last checkpoint.
      KeyboardInterrupt: Ctrl-C; in a workdir one process saves the state after the step first, and
        several finish a save that is under way.
    """
    writes = jax.process_index() == 0
    if log is None:
        log = log_to_stderr if writes else _ignore
    parallel = Parallel() if parallel is None else parallel
    if shard_state:
        parallel.check_pieces()
    check_range("steps", steps, least=1)
    check_range("log_every", log_every, least=1)
    check_range("prefetch", prefetch, least=1)
    check_range("keep", keep, least=2)  # of two, one may be damaged
    check_range("ema_decay", ema_decay, least=0, less_than=1)
    check_range("accumulate", accumulate, least=1)
    profile = check_profile(profile, steps)
    if profile is not None and workdir is None:
        raise OptionError("profile", "profile is written into the workdir: give a workdir too")
    if best is not None and validation is None:
        raise OptionError("best", "best is given without validation: give both, or neither")
    stages = stages_of(optimizer, steps, freeze=task.freeze)
    _check_data(task, train, stateful=workdir is not None)
    options, command_line = as_json("options", options or {}), as_json("command_line", command_line)
    folder = None if workdir is None else pathlib.Path(workdir).expanduser()
    data = Peeked(train)
    if folder is not None and has_checkpoints(folder / CHECKPOINTS):
        # The step is traced for the first batch of the run, whatever was read of the data since.
        begun = None
        with contextlib.suppress(InputError):  # `claim` raises it, with more to say
            begun = read_run(folder)["data_start"]
        if begun is not None and begun != as_json("train", data.get_state()):
            data.set_state(begun)
    first = data.first()
    training = _Training(
        task=task,
        stages=stages,
        plan=Plan(
            steps=steps,
            eval_every=max(1, steps // 10) if eval_every is None else eval_every,
            checkpoint_every=checkpoint_every,
            best=best,
            # What a first phase reaches is no reason to stop before the last one has begun.
            patient_until=stages[-1].start,
        ),
        data=data,
        validation=validation,
        batch_size=_batch_size(train, first),
        seed=seed,
        ema_decay=ema_decay,
        accumulate=accumulate,
        shard_state=shard_state,
        log_every=log_every,
        prefetch=prefetch,
        profile=profile,
        parallel=parallel,
        log=log,
        writes=writes,
    )
    parallel.check_batch_size(training.batch_size, accumulate)
    check_state(training.like(0))
    lines = training.what_is_trained()
    if validation is not None:
        # Before anything is written: can the data be read, is the metric there?
        check_targets(task, validation)
        names = metric_names(task, training.like(0).eval_variables, next(iter(validation)))
        if best is not None:
            best.check(names)

    def started() -> TrainState:
        state = init_state(task, stages[0].phase, seed, variables=variables, ema_decay=ema_decay)
        return place_state(state, parallel, shard_state=shard_state)

    if folder is None:
        memory = _Memory(best, parallel)
        for line in lines:
            log(line)
        state, history = training.train(
            started(), [], workdir=None, store=memory, stop_requested=lambda step: False
        )
        return _fitted(state, history, memory, finished=True)
    run = describe_run(
        task,
        describe_fit(
            [stage.phase for stage in stages],
            steps=steps,
            batch_size=training.batch_size,
            seed=seed,
            best=best,
            ema_decay=ema_decay,
            accumulate=accumulate,
            eval_every=eval_every,
        ),
        options=options,
        step_digest=[
            step_digest(
                task,
                stage.phase,
                training.like(stage.start + 1),
                global_shapes(first, jax.process_count()),
                ema_decay=ema_decay,
                start=stage.start,
                accumulate=accumulate,
            )
            for stage in stages
        ],
        data_start=as_json("train", data.get_state()),
        command_line=command_line,
    )
    training = dataclasses.replace(training, run=run)
    return _fit_in(folder, training, started, lines, keep=keep, extend=extend)


def _fit_in(
    folder: pathlib.Path,
    training: _Training,
    initial: Callable[[], TrainState],
    lines: Sequence[str],
    *,
    keep: int,
    extend: bool,
) -> Fitted:
    """Trains in a folder, or goes on with the run there."""
    log, plan, writes = training.log, training.plan, training.writes
    with (
        lock(folder) if writes else contextlib.nullcontext(),
        Preemption() as preemption,
        Checkpoints(
            folder / CHECKPOINTS, best=plan.best, parallel=training.parallel, keep=keep
        ) as checkpoints,
    ):
        claim(
            folder,
            training.run,
            started=has_checkpoints(folder / CHECKPOINTS),
            writes=writes,
            extend=extend,
            log=log,
        )
        restored = checkpoints.restore_latest(training.placed_like)
        if restored is None:
            state, history = initial(), []
        else:
            state, history = restored.state, restored.history
            training.data.set_state(restored.data)
        start = int(state.step)
        if plan.over(start, history):
            log(f"the run in {folder} is finished ({start} steps)")
        else:
            if start:
                log(f"resuming the run in {folder} after step {start}")
            for line in lines:
                log(line)
            state, history = training.train(
                state,
                history,
                workdir=folder,
                store=checkpoints,
                stop_requested=preemption.requested,
            )
        finished = plan.over(int(state.step), history)
        # Also of a run that was killed at its end, before its curves were drawn.
        if writes and not (start == int(state.step) and (folder / CURVES).exists()):
            draw_curves(folder, plan.best, history)
        if preemption.interrupted:
            raise KeyboardInterrupt
        return _fitted(state, history, checkpoints, finished=finished)


def _fitted(state: TrainState, history: History, store: _Store, *, finished: bool) -> Fitted:
    if not finished:
        return Fitted(state, None, None, history, finished)
    weights = store.restore_weights("best")
    return Fitted(state, weights.variables, weights.step, history, finished)


def _ignore(line: str) -> None:
    """Shows nothing."""
