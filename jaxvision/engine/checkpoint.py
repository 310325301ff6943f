"""Checkpoints: the one module that uses Orbax.

A checkpoint holds the state in three parts (the weights, their moving average if there is one, and
the optimizer's state), the position in the data, the evaluations so far, the description of the
run, shapes and dtypes of all arrays, and a sha256 of each array and of all the rest. When all its
files are on disk, a sha256 of each file is written beside them, to files.json. Restoring verifies
all of them. A damaged checkpoint is passed over with a warning, and the one before is used.

Training waits until the state is on the host and finite; threads write and hash it. A checkpoint is
there when both are done: Orbax gives its folder the name of the step then, so that a process which
dies before leaves none. A save waits for the one before.
"""

import json
import logging
import pathlib
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import PolicyCheckpointInfo, PreservationContext

from jaxvision.core import InputError, TrainState, reason_of
from jaxvision.core.digest import array_digests, file_digests, json_digest
from jaxvision.core.files import check_plain, parse_json, read_text, replace_text, writing
from jaxvision.engine.errors import DamagedError, NonFiniteError, RenamedError
from jaxvision.engine.history import Best, History, ranked
from jaxvision.engine.parallel import Parallel
from jaxvision.engine.workdir import best_of, check_same_task, read_run

log = logging.getLogger(__name__)

T = TypeVar("T")

Like = Callable[[int], TrainState]

CHECKPOINTS = "checkpoints"
"""Name of the folder of the checkpoints in that of the run."""

_WEIGHTS, _EMA, _OPTIMIZER, _META, _FILES = "weights", "ema", "optimizer", "meta", "files.json"
_META_FILE = "metadata"
_STEP = f"{_OPTIMIZER}/step"


class _MetaHandler(ocp.JsonCheckpointHandler):
    """Writes what a checkpoint has beside its arrays, with their digests.

    The first process computes them, in a thread beside those that write the arrays.
    """

    def __init__(self):
        super().__init__(_META_FILE)

    async def async_save(
        self, directory: Any, item: Any = None, args: "_MetaSave | None" = None
    ) -> list[ocp.future.Future]:
        """Starts to write.

        Args:
          directory: where the file goes; it may be made later.
          item: not used.
          args: what is written.
        Returns:
          what Orbax waits for before the checkpoint is there.
        """
        del item

        async def write() -> None:
            if jax.process_index() == 0:
                meta = {**args.meta, "arrays": array_digests(args.arrays)}
                meta["digest"] = json_digest(meta)
                (directory / _META_FILE).write_text(json.dumps(meta))

        return [ocp.future.CommitFutureAwaitingContractedSignals(write(), name="digests")]


@ocp.args.register_with_handler(_MetaHandler, for_save=True)
@dataclass
class _MetaSave(ocp.args.CheckpointArgs):
    """What `_MetaHandler` writes.

    Attributes:
      meta: plain JSON.
      arrays: of the checkpoint, on the host, of which the digests are written.
    """

    meta: dict[str, Any]
    arrays: Any


@ocp.args.register_with_handler(_MetaHandler, for_restore=True)
@dataclass
class _MetaRestore(ocp.args.JsonRestore):
    """Reads what `_MetaHandler` wrote."""


def has_checkpoints(folder: pathlib.Path) -> bool:
    """Whether a folder has any checkpoint, sound or not."""
    return folder.is_dir() and any(path.name.isdigit() for path in folder.iterdir())


@dataclass(frozen=True)
class Restored:
    """The contents of a checkpoint.

    Attributes:
      step: its step.
      state: on the devices.
      data: the data iterator's state.
      history: evaluations up to the step.
    """

    step: int
    state: TrainState
    data: dict[str, Any]
    history: History


class Weights(NamedTuple):
    """The network's variables of a checkpoint.

    Attributes:
      variables: the moving average, if the run has one, else the variables themselves.
      step: of the checkpoint.
      history: evaluations up to the step; of the best checkpoint: all evaluations so far.
    """

    variables: dict[str, Any]
    step: int
    history: History


class _LatestAndBest:
    """Tells Orbax which checkpoints to keep: the last few, and the best by the evaluations."""

    def __init__(self, keep: int, best: Best | None):
        self._keep, self._best = keep, best
        self.history: History = []

    def should_preserve(
        self, checkpoints: Sequence[PolicyCheckpointInfo], *, context: PreservationContext
    ) -> Sequence[bool]:
        del context
        steps = [checkpoint.step for checkpoint in checkpoints]
        best = [s for s in ranked(self._best, self.history) if s in steps][:1]
        kept = {*sorted(steps)[-self._keep :], *best}
        return [step in kept for step in steps]


def _parts(state: TrainState) -> dict[str, Any]:
    """The parts of a state, each of which is saved by itself."""
    parts = {
        _WEIGHTS: {"params": state.params, "statistics": state.statistics},
        _OPTIMIZER: {"step": state.step, "opt_state": state.opt_state},
    }
    return parts if state.ema is None else {**parts, _EMA: state.ema}


def _whole(parts: Mapping[str, Any]) -> TrainState:
    """The state that `_parts` took apart."""
    return TrainState(**parts[_WEIGHTS], **parts[_OPTIMIZER], ema=parts.get(_EMA))


def _shapes_of(tree: Any) -> Any:
    """Nested dicts and lists with "float32[3,4]" for each array; None for other containers."""
    if isinstance(tree, Mapping):
        return {str(name): _shapes_of(part) for name, part in tree.items()}
    if isinstance(tree, tuple | list):
        return [_shapes_of(part) for part in tree]
    if hasattr(tree, "shape"):
        return f"{jnp.dtype(tree.dtype).name}[{','.join(map(str, tree.shape))}]"
    return None


def _like_shapes(shapes: Any, sharding: Any) -> Any:
    """Shapes and dtypes as Orbax takes them, from `_shapes_of`."""
    if isinstance(shapes, dict):
        return {name: _like_shapes(part, sharding) for name, part in shapes.items()}
    if isinstance(shapes, list):
        return [_like_shapes(part, sharding) for part in shapes]
    match = re.fullmatch(r"(\w+)\[([\d,]*)\]", shapes or "")
    if match is None:
        raise ValueError(f"its shapes have {shapes!r}")
    shape = tuple(int(size) for size in match[2].split(",") if size)
    return jax.ShapeDtypeStruct(shape, jnp.dtype(match[1]), sharding=sharding)


def _digest_of_step(step: int) -> str:
    """The digest by which `Checkpoints.save` records a step."""
    return array_digests({_OPTIMIZER: {"step": np.int32(step)}})[_STEP]


def _files_of(folder: pathlib.Path) -> dict[str, str]:
    """Digests of all files of a checkpoint but files.json, finished or not."""
    return {n: d for n, d in file_digests(folder).items() if not n.startswith(_FILES)}


def _compare(found: dict[str, str], saved: dict[str, str], what: str) -> None:
    """Raises ValueError naming the digests that differ."""
    wrong = sorted(n for n in found.keys() | saved.keys() if found.get(n) != saved.get(n))
    if wrong:
        raise ValueError(f"{', '.join(wrong[:3])}: not what was saved ({len(wrong)} {what})")


def check_finite(state: TrainState, last_good: pathlib.Path | None) -> None:
    """Raises NonFiniteError if a variable of a state on the host is NaN or infinite.

    Args:
      state: numpy arrays.
      last_good: the last checkpoint, for the message.
    """
    wrong = {}
    values = {**state.variables, "ema": state.ema}
    for path, leaf in jax.tree_util.tree_leaves_with_path(values):
        # jnp knows bfloat16 as a floating type; numpy does not.
        finite = np.isfinite(leaf) if jnp.issubdtype(leaf.dtype, jnp.floating) else np.True_
        if not finite.all():
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            wrong[name] = float(leaf[~finite].flat[0])
    if wrong:
        raise NonFiniteError(int(state.step), dict(list(wrong.items())[:5]), last_good)


class Checkpoints:
    """The checkpoints of a run; a context manager, which waits for the last save.

    Args:
      folder: where they are; one folder for all processes.
      best: which evaluation is best; None: the last checkpoint is the best.
      parallel: the devices that a restored state goes to.
      keep: how many of the last to keep, beside the best.
      read_only: whether to change nothing on disk.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        *,
        best: Best | None,
        parallel: Parallel,
        keep: int = 2,
        read_only: bool = False,
    ):
        self.folder = folder
        self._best, self._parallel = best, parallel
        self._read_only = read_only
        self._policy = _LatestAndBest(keep, best)
        parts = (_WEIGHTS, _EMA, _OPTIMIZER)
        self._manager = ocp.CheckpointManager(
            folder.absolute(),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=self._policy,
                cleanup_tmp_directories=not read_only,
                create=not read_only,
                read_only=read_only,
                enable_async_checkpointing=True,
            ),
            item_handlers={
                **{part: ocp.StandardCheckpointHandler() for part in parts},
                _META: _MetaHandler(),
            },
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._finishing: Future | None = None
        self.last: pathlib.Path | None = None
        """The last checkpoint saved or restored."""

    def steps(self) -> list[int]:
        """The steps of all checkpoints, sound or not, the last first."""
        return sorted(self._manager.all_steps(), reverse=True)

    def save(
        self,
        state: TrainState,
        *,
        data: dict[str, Any],
        history: History,
        run: dict[str, Any] | None = None,
    ) -> None:
        """Saves in the background; returns when the state is copied from the devices.

        Args:
          state: saved under its step.
          data: the data iterator's state after that step.
          history: evaluations up to that step.
          run: the description of the run.
        Raises:
          NonFiniteError: a parameter or statistic is NaN or infinite; nothing is saved.
          NoRoomError: there is no room for this checkpoint, or for the one before.
          RuntimeError: there is a checkpoint of this step or a later one.
        """
        # Host arrays are written by the first process alone: after a step by pmap the state is an
        # array of each process, which Orbax would not write from several.
        host = self._parallel.fetch(state)
        step = int(host.step)
        check_finite(host, self.last)
        parts = _parts(host)
        meta = {
            "step": step,
            "data": data,
            "history": history,
            "run": run or {},
            "shapes": {name: _shapes_of(part) for name, part in parts.items()},
        }
        self._wait()
        self._policy.history = list(history)
        with writing(self.folder / str(step)):
            saved = self._manager.save(
                step,
                args=ocp.args.Composite(
                    **{name: ocp.args.StandardSave(part) for name, part in parts.items()},
                    **{_META: _MetaSave(meta, parts)},
                ),
            )
        if not saved:
            raise RuntimeError(f"{self.folder} has a checkpoint of step {step} or a later one")
        self._finishing = self._thread.submit(self._write_files, step)
        self.last = self.folder / str(step)

    def restore_latest(self, like: Like) -> Restored | None:
        """Restores the last checkpoint that is sound; None if there is none at all.

        Damaged ones after it are moved to a folder beside the checkpoints (unless read-only), so
        that their steps can be saved again.

        Args:
          like: (step) -> a state after it, or its shapes and dtypes (`abstract_state`), which may
            have shardings. What has none goes to every device whole.
        Raises:
          DamagedError: there are checkpoints, but none is sound.
        """
        restored, damaged = self._first_sound(self.steps(), partial(self._restore, like=like))
        if restored is not None and damaged and not self._read_only:
            self._set_aside(damaged)
        if restored is not None:
            self.last = self.folder / str(restored.step)
            self._policy.history = restored.history
            if not (self._read_only or (self.last / _FILES).exists()):
                self._write_files(restored.step)
        return restored

    def restore_weights(self, step: int | str = "best") -> Weights | None:
        """Restores the variables for evaluation, without knowing the task; None if there are none.

        Args:
          step: "best": the best checkpoint by the evaluations so far, or the next best that is
            sound; "latest": the last that is sound; or the step of one.
        Raises:
          InputError: there is no checkpoint of that step.
          DamagedError: there are checkpoints, but none that was asked for is sound.
        """
        self._wait()
        steps = self.steps()
        if isinstance(step, int):
            if step not in steps:
                known = ", ".join(map(str, sorted(steps))) or "none"
                raise InputError(f"no checkpoint of step {step} in {self.folder}: it has {known}")
            steps = [step]
        elif step == "best":
            history: History = []
            for one in steps:
                meta = self._attempt(one, self._read_meta) if self._is_intact(one) else None
                if meta is not None:
                    history = meta["history"]
                    break
            best = [one for one in ranked(self._best, history) if one in steps]
            # Without evaluations the last is the best.
            steps = [*best, *(one for one in steps if one not in best)]
        elif step != "latest":
            raise InputError(f"step is {step!r}: give 'best', 'latest' or a number")
        found, _ = self._first_sound(steps, self._restore_weights)
        return found if found is None or step != "best" else found._replace(history=history)

    def description_at(self, step: int) -> dict[str, Any]:
        """The description of the run that was given when this step was saved."""
        return self._read_meta(step)["run"]

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        """Waits for what is being written."""
        try:
            self._wait()
        finally:
            self._thread.shutdown()
            with writing(self.folder):
                self._manager.close()

    def _wait(self) -> None:
        finishing, self._finishing = self._finishing, None
        if finishing is not None:
            finishing.result()

    def _write_files(self, step: int) -> None:
        """Writes the digests of a checkpoint's files, when they are all there.

        A process that dies before that leaves a checkpoint without them. Its arrays and the rest
        have their own digests all the same, and files.json is written when it is restored.
        """
        folder = self.folder / str(step)
        with writing(folder):
            self._manager.wait_until_finished()
        if jax.process_index() == 0:
            files = _files_of(folder)
            text = json.dumps({"files": files, "digest": json_digest(files)})
            replace_text(folder / _FILES, text)

    def _check_files(self, step: int) -> None:
        folder = self.folder / str(step)
        check_plain(folder)
        if not (folder / _FILES).exists():
            return
        written = parse_json(read_text(folder / _FILES))
        saved, found = written["files"], _files_of(folder)
        if json_digest(saved) != written["digest"]:
            raise ValueError(f"{_FILES}: not what was saved")
        _compare(found, saved, "files")

    def _first_sound(
        self, steps: Iterable[int], restore: Callable[[int], T]
    ) -> tuple[T | None, list[int]]:
        """What is restored from the first sound checkpoint, and those passed over before it."""
        damaged: list[int] = []
        for step in steps:
            if self._is_intact(step):
                restored = self._attempt(step, restore)
                if restored is not None:
                    return restored, damaged
            damaged.append(step)
        if damaged:
            raise DamagedError(
                f"none of the checkpoints {damaged} in {self.folder} can be used (see the "
                "warnings above): repair them, or start again in another workdir"
            )
        return None, []

    def _read(self, step: int, likes: dict[str, Any]) -> Any:
        """Parts of a checkpoint, of which the shapes and dtypes are given."""
        args = {name: ocp.args.StandardRestore(like) for name, like in likes.items()}
        restored = self._manager.restore(step, args=ocp.args.Composite(**args))
        return {name: restored[name] for name in likes}

    def _restore(self, step: int, like: Like) -> Restored:
        meta = self._read_meta(step)
        likes = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self._sharding_of(x)),
            _parts(like(step)),
        )
        parts = self._read(step, likes)
        _compare(array_digests(self._parallel.fetch(parts)), meta["arrays"], "arrays")
        return Restored(step, _whole(parts), meta["data"], meta["history"])

    def _sharding_of(self, like: Any) -> jax.sharding.Sharding:
        """Where an array of which the shape is given is restored to."""
        given = like.sharding if isinstance(like, jax.ShapeDtypeStruct) else None
        return self._parallel.replicated if given is None else given

    def _restore_weights(self, step: int) -> Weights:
        meta = self._read_meta(step)
        name = _EMA if _EMA in meta["shapes"] else _WEIGHTS
        like = _like_shapes(meta["shapes"][name], self._parallel.replicated)
        parts = self._read(step, {name: like})
        saved = {n: d for n, d in meta["arrays"].items() if n.startswith(f"{name}/")}
        _compare(array_digests(parts), saved, "arrays")
        variables = parts[name]
        if name == _WEIGHTS:
            variables = {"params": variables["params"], **variables["statistics"]}
        return Weights(variables, step, meta["history"])

    def _read_meta(self, step: int) -> dict[str, Any]:
        args = ocp.args.Composite(**{_META: _MetaRestore()})
        meta = self._manager.restore(step, args=args)[_META]
        digest = meta.pop("digest")
        if json_digest(meta) != digest:
            raise ValueError("its metadata is not what was saved")
        self._check_step(step, meta)
        return meta

    def _check_step(self, step: int, meta: Mapping[str, Any]) -> None:
        """Raises RenamedError if a checkpoint is in a folder with the name of another step."""
        stored = meta.get("step")
        if stored is None:  # earlier versions did not write it, but a digest of the array
            known = [s for s in self.steps() if meta["arrays"][_STEP] == _digest_of_step(s)]
            stored = step if step in known else next(iter(known), "another")
        if stored != step:
            raise RenamedError(
                f"{self.folder / str(step)} has the checkpoint of step {stored}: its folder was "
                f"renamed or copied; give it the name {stored} again, or remove it"
            )

    def _is_intact(self, step: int) -> bool:
        """Whether every process finds the files unchanged; asked before restoring together."""

        def check(step: int) -> bool:
            self._check_files(step)
            return True

        return self._attempt(step, check) is not None

    def _attempt(self, step: int, read: Callable[[int], T]) -> T | None:
        """What is read of a checkpoint; None, with a warning, if it fails in any process."""
        result = None
        try:
            result = read(step)
        except RenamedError:
            raise
        except Exception as error:  # whatever a damaged file makes a reader raise
            log.warning(
                "checkpoint %d in %s is damaged and passed over: %s",
                step,
                self.folder,
                reason_of(error),
            )
        return result if self._parallel.agree(result is not None) else None

    def _set_aside(self, steps: Sequence[int]) -> None:
        """Moves checkpoints away, without destroying what may still be of use."""
        if jax.process_index() == 0:
            aside = self.folder.parent / "damaged_checkpoints"
            aside.mkdir(exist_ok=True)
            for step in steps:
                target, copies = aside / str(step), 1
                while target.exists():
                    copies += 1
                    target = aside / f"{step}.{copies}"
                shutil.move(self.folder / str(step), target)
                log.warning("moved checkpoint %d to %s", step, target)
        self._parallel.barrier("damaged checkpoints set aside")
        self._manager.reload()


def restore_weights(
    workdir: str | pathlib.Path,
    step: int | str = "best",
    *,
    parallel: Parallel | None = None,
    same_task: bool = False,
) -> Weights:
    """Restores the variables of a run, without building its task; changes nothing on disk.

    Args:
      workdir: the run's folder.
      step: "best", "latest", or the step of a checkpoint; a damaged checkpoint gives way to the
        next best, or to the one before, with a warning.
      parallel: the devices that the arrays go to; None: the first device of this process.
      same_task: refuse a checkpoint of another task than run.json describes.
    Returns:
      (variables, step, history): the moving average of the variables, if the run has one.
    Raises:
      InputError: there is no run, or no such checkpoint in it; a checkpoint was renamed, or has
        another task.
      DamagedError: there are checkpoints, but none that was asked for is sound.
    """
    workdir = pathlib.Path(workdir).expanduser()
    run = read_run(workdir)
    parallel = Parallel(devices=jax.local_devices()[:1]) if parallel is None else parallel
    folder = workdir / CHECKPOINTS
    if not has_checkpoints(folder):
        raise InputError(f"no checkpoint in {folder}: train first")
    best = best_of(run)
    with Checkpoints(folder, best=best, parallel=parallel, read_only=True) as checkpoints:
        weights = checkpoints.restore_weights(step)
        if same_task:
            check_same_task(run, checkpoints.description_at(weights.step), str(workdir))
    return weights
