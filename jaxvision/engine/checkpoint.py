"""Checkpoints: the one module that knows of Orbax.

A checkpoint holds the state, the position in the data, the evaluations so far and the config, and
a sha256 of each array and of all the rest. Once it is on disk it is sealed with a sha256 of each of
its files. Restoring verifies all of them; a checkpoint that is damaged is passed over with a
warning, and the one before is used.
"""

import dataclasses
import json
import logging
import pathlib
import shutil
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import PolicyCheckpointInfo, PreservationContext

from jaxvision.core import TrainState
from jaxvision.core.digest import array_digests, file_digests, json_digest
from jaxvision.core.files import replace_text
from jaxvision.engine.errors import DamagedError, NonFiniteError
from jaxvision.engine.history import Criterion, History
from jaxvision.engine.parallel import Parallel

log = logging.getLogger(__name__)

T = TypeVar("T")

Like = Callable[[int], TrainState]

_STATE, _META, _SEAL = "state", "meta", "seal.json"


def has_checkpoints(folder: pathlib.Path) -> bool:
    """Whether a folder has any checkpoint, sound or not."""
    return folder.is_dir() and any(path.name.isdigit() for path in folder.iterdir())


@dataclass(frozen=True)
class Restored:
    """What a checkpoint held.

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


class _LatestAndBest:
    """Which checkpoints Orbax keeps: the last few, and the best by the evaluations so far."""

    def __init__(self, keep: int, criterion: Criterion):
        self._keep, self._criterion = keep, criterion
        self.history: History = []

    def should_preserve(
        self, checkpoints: Sequence[PolicyCheckpointInfo], *, context: PreservationContext
    ) -> Sequence[bool]:
        del context
        steps = [checkpoint.step for checkpoint in checkpoints]
        best = [s for s in self._criterion.ranked(self.history) if s in steps][:1]
        kept = {*sorted(steps)[-self._keep :], *best}
        return [step in kept for step in steps]


def _present(state: TrainState) -> dict[str, Any]:
    """The fields that a state has, so that one without a part that came later is as it was."""
    fields = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    return {name: value for name, value in fields.items() if value is not None}


def _files_of(folder: pathlib.Path) -> dict[str, str]:
    """What a seal is about: all files but itself, also as one that was not finished."""
    return {n: d for n, d in file_digests(folder).items() if not n.startswith(_SEAL)}


def _compare(found: dict[str, str], saved: dict[str, str], what: str) -> None:
    """Raises ValueError naming the digests that differ."""
    wrong = sorted(n for n in found.keys() | saved.keys() if found.get(n) != saved.get(n))
    if wrong:
        raise ValueError(f"{', '.join(wrong[:3])}: not what was saved ({len(wrong)} {what})")


class Checkpoints:
    """The checkpoints of a run; a context manager, which waits for the last save.

    Args:
      folder: where they are; one folder for all processes.
      criterion: which evaluation is best.
      parallel: the devices that a restored state goes to.
      keep: how many of the last to keep, beside the best.
      read_only: whether to change nothing on disk.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        *,
        criterion: Criterion,
        parallel: Parallel,
        keep: int = 2,
        read_only: bool = False,
    ):
        self.folder = folder
        self._criterion, self._parallel = criterion, parallel
        self._read_only = read_only
        self._policy = _LatestAndBest(keep, criterion)
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
                _STATE: ocp.StandardCheckpointHandler(),
                _META: ocp.JsonCheckpointHandler(),
            },
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="seal")
        self._sealing: Future | None = None
        self.last: pathlib.Path | None = None
        """The last checkpoint saved or restored."""

    def save(
        self, state: TrainState, *, data: dict[str, Any], history: History, config: dict[str, Any]
    ) -> None:
        """Saves in the background; returns when the state is copied from the devices.

        Args:
          state: to be saved under its step.
          data: the data iterator's state after that step.
          history: evaluations up to that step.
          config: the run's config.
        Raises:
          NonFiniteError: a parameter or statistic is NaN or infinite; nothing is saved.
          RuntimeError: there is a checkpoint of this step or a later one.
        """
        # Host arrays are written by the first process alone: after a step by pmap the state is an
        # array of each process, which Orbax would not write from several.
        host = jax.device_get(state)
        step = int(host.step)
        self._check_finite(host, step)
        meta = {
            "data": data,
            "history": history,
            "config": config,
            "arrays": array_digests(host),
        }
        meta["digest"] = json_digest(meta)
        self._wait()
        self._policy.history = list(history)
        saved = self._manager.save(
            step,
            args=ocp.args.Composite(
                **{_STATE: ocp.args.StandardSave(_present(host)), _META: ocp.args.JsonSave(meta)}
            ),
        )
        if not saved:
            raise RuntimeError(f"{self.folder} has a checkpoint of step {step} or a later one")
        self._sealing = self._thread.submit(self._seal, step)
        self.last = self.folder / str(step)

    def restore_latest(self, like: Like) -> Restored | None:
        """The last checkpoint that is sound; None if there is none at all.

        Damaged ones after it are moved to a folder beside the checkpoints (unless read-only), so
        that their steps can be saved again.

        Args:
          like: (step) -> a state after it, or its shapes and dtypes (`abstract_state`).
        Raises:
          DamagedError: there are checkpoints, but none is sound.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        restored, damaged = self._first_sound(steps, like)
        if restored is not None and damaged and not self._read_only:
            self._set_aside(damaged)
        if restored is not None:
            self.last = self.folder / str(restored.step)
            self._policy.history = restored.history
            if not (self._read_only or (self.last / _SEAL).exists()):
                self._seal(restored.step)
        return restored

    def restore_best(self, like: Like) -> Restored | None:
        """The best checkpoint by the evaluations so far, or the next best that is sound.

        Args:
          like: as in `restore_latest`.
        Raises:
          DamagedError: there are checkpoints, but none is sound.
        """
        self._wait()
        steps = sorted(self._manager.all_steps(), reverse=True)
        history: History = []
        for step in steps:
            meta = self._attempt(step, self._read_meta) if self._is_intact(step) else None
            if meta is not None:
                history = meta["history"]
                break
        ranked = [step for step in self._criterion.ranked(history) if step in steps]
        # Without evaluations the last is the best.
        restored, _ = self._first_sound([*ranked, *(s for s in steps if s not in ranked)], like)
        return restored

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        """Waits for what is being written."""
        self._wait()
        self._thread.shutdown()
        self._manager.close()

    def _wait(self) -> None:
        if self._sealing is not None:
            self._sealing.result()
            self._sealing = None

    def _seal(self, step: int) -> None:
        """Writes down what the files of a checkpoint are, once they are all there.

        A process that dies before that leaves a checkpoint without a seal; its arrays and the rest
        have their own digests all the same, and it is sealed when it is restored.
        """
        self._manager.wait_until_finished()
        if jax.process_index() == 0:
            folder = self.folder / str(step)
            files = _files_of(folder)
            seal = {"files": files, "digest": json_digest(files)}
            replace_text(folder / _SEAL, json.dumps(seal))

    def _check_seal(self, step: int) -> None:
        folder = self.folder / str(step)
        if not (folder / _SEAL).exists():
            return
        seal = json.loads((folder / _SEAL).read_text())
        saved, found = seal["files"], _files_of(folder)
        if json_digest(saved) != seal["digest"]:
            raise ValueError(f"{_SEAL}: not what was saved")
        _compare(found, saved, "files")

    def _first_sound(self, steps: Iterable[int], like: Like) -> tuple[Restored | None, list[int]]:
        """The first checkpoint that is sound, and those passed over before it."""
        damaged: list[int] = []
        for step in steps:
            if self._is_intact(step):
                restored = self._attempt(step, partial(self._restore, like=like))
                if restored is not None:
                    return restored, damaged
            damaged.append(step)
        if damaged:
            raise DamagedError(
                f"none of the checkpoints {damaged} in {self.folder} can be used (see the "
                "warnings above): mend them, or start again with another --workdir"
            )
        return None, []

    def _restore(self, step: int, like: Like) -> Restored:
        meta = self._read_meta(step)
        target = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self._parallel.replicated),
            _present(like(step)),
        )
        restored = self._manager.restore(
            step, args=ocp.args.Composite(**{_STATE: ocp.args.StandardRestore(target)})
        )
        state = TrainState(**restored[_STATE])
        _compare(array_digests(state), meta["arrays"], "arrays")
        return Restored(step, state, meta["data"], meta["history"])

    def _read_meta(self, step: int) -> dict[str, Any]:
        args = ocp.args.Composite(**{_META: ocp.args.JsonRestore()})
        meta = self._manager.restore(step, args=args)[_META]
        digest = meta.pop("digest")
        if json_digest(meta) != digest:
            raise ValueError("its metadata is not what was saved")
        return meta

    def _is_intact(self, step: int) -> bool:
        """Whether every process finds the seal unbroken; asked before restoring together."""

        def check(step: int) -> bool:
            self._check_seal(step)
            return True

        return self._attempt(step, check) is not None

    def _attempt(self, step: int, read: Callable[[int], T]) -> T | None:
        """What is read of a checkpoint; None, with a warning, if it fails in any process."""
        result = None
        try:
            result = read(step)
        except Exception as error:  # whatever a damaged file makes a reader raise
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            log.warning(
                "checkpoint %d in %s is damaged and passed over: %s",
                step,
                self.folder,
                reason[:300],
            )
        return result if self._parallel.agree(result is not None) else None

    def _check_finite(self, state: TrainState, step: int) -> None:
        wrong = {}
        values = {**state.variables, "average": state.average}
        for path, leaf in jax.tree_util.tree_leaves_with_path(values):
            # jnp knows bfloat16 as a floating type; numpy does not.
            finite = np.isfinite(leaf) if jnp.issubdtype(leaf.dtype, jnp.floating) else np.True_
            if not finite.all():
                wrong[jax.tree_util.keystr(path, simple=True, separator="/")] = float(
                    leaf[~finite].flat[0]
                )
        if wrong:
            raise NonFiniteError(step, dict(list(wrong.items())[:5]), self.last)

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
