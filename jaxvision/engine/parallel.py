"""Runs one program on all devices; the only file that uses `pmap` and `shard_map`.

State is replicated: it goes into and comes out of a mapped function whole, without a device axis.
Batches are cut along their first axis. Both ways of mapping run the same function and give the
same numbers. JAX keeps `pmap` in maintenance mode, on top of `jit` and `shard_map`.

Arrays of the state can also lie in pieces, one on each device, with `shard_map` alone. An array is
cut along its first axis that the number of devices divides, so its shape remains, and it is whole
where there is no such axis.
"""

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxvision.core import (
    AXIS,
    OptionError,
    TrainState,
    check_choice,
    check_divisible,
    listed,
)

warnings = logging.getLogger(__name__)

KINDS = ("pmap", "shard_map")


class Mapped:
    """A function that runs on all devices, compiled when it is called.

    Args:
      fn: the function that each device runs.
      compiling: `jax.jit` or `jax.pmap`, with their options.

    Attributes:
      compilations: how often it was compiled: once for each form (shapes and dtypes) of its
        arguments.
    """

    def __init__(self, fn: Callable[..., Any], compiling: Callable[..., Callable[..., Any]]):
        def traced(*arguments: Any) -> Any:
            self.compilations += 1  # Python runs while JAX traces, and only then
            return fn(*arguments)

        self.compilations = 0
        self._run = compiling(traced)

    def __call__(self, *arguments: Any) -> Any:
        return self._run(*arguments)

    def reporting(self, what: str, log: Callable[[str], None]) -> Callable[..., Any]:
        """Returns the function, which logs each compilation: for which images, and how long.

        It is expected to be compiled once for each size of images. A further compilation for images
        of one size is a warning, which shows what has another shape or dtype than before.

        Args:
          what: is compiled, for the message.
          log: shows a line to the user.
        """

        forms: dict[str, dict[str, str]] = {}

        def call(state: Any, batch: Any, *more: Any) -> Any:
            before, start = self.compilations, time.perf_counter()
            result = self(state, batch, *more)
            if self.compilations > before:
                seconds = time.perf_counter() - start
                images = _of_images(batch)
                log(f"compiled {what}{images} in {seconds:.1f} s")
                form = _form_of({"state": state, "batch": batch, "more": more})
                if images in forms:
                    changes = _changes(forms[images], form)
                    warnings.warning("%s%s was compiled again: %s", what, images, changes)
                forms[images] = form
            return result

        return call

    def lower(self, *arguments: Any) -> Any:
        """Lowers the function for these arguments, or for their shapes and dtypes."""
        return self._run.lower(*arguments)


def _of_images(batch: Any) -> str:
    shape = getattr(getattr(batch, "image", None), "shape", ())
    return " for images of {1} x {0}".format(*shape[-3:]) if len(shape) > 3 else ""


def _form_of(tree: Any) -> dict[str, str]:
    """Path -> dtype and shape of each array; a weak type, which compiles anew too, is marked."""
    forms = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        x = jax.typeof(leaf)
        weak = " (weak type)" if x.weak_type else ""
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        forms[name] = f"{x.dtype}{list(x.shape)}{weak}"
    return forms


def _changes(before: dict[str, str], after: dict[str, str]) -> str:
    changes = [
        f"{name} was {before.get(name, 'missing')} and is {after.get(name, 'missing')}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
    return listed(changes) or "all shapes and dtypes are as before, but a setting of JAX is not"


def check_batch_size(batch_size: int, devices: int, accumulate: int) -> None:
    """See `Parallel.check_batch_size`, for a number of devices."""
    parts = "devices" if accumulate == 1 else f"parts of {devices} devices, accumulate {accumulate}"
    check_divisible(batch_size, devices * accumulate, parts)


class Parallel:
    """A set of devices and a way to map functions over them.

    Args:
      kind: one of `KINDS`.
      devices: of all processes, in the order of the batch; None for all devices.
    Raises:
      OptionError: unknown kind.
    """

    def __init__(self, kind: str = "pmap", devices: Sequence[jax.Device] | None = None):
        check_choice("kind", kind, KINDS)
        self.kind = kind
        self.devices = list(jax.devices() if devices is None else devices)
        self._mesh = Mesh(np.array(self.devices), (AXIS,), axis_types=(AxisType.Auto,))
        self._local = sum(d.process_index == jax.process_index() for d in self.devices)

    @property
    def local_count(self) -> int:
        """The number of devices of this process."""
        return self._local

    def check_batch_size(self, batch_size: int, accumulate: int = 1) -> None:
        """Raises InputError, naming the next sizes that fit, if it cannot be cut evenly.

        Args:
          batch_size: of the global batch.
          accumulate: into how many parts each device cuts its examples.
        """
        check_batch_size(batch_size, len(self.devices), accumulate)

    def fitting(self, batch_size: int) -> int:
        """The next batch size that the devices divide; for evaluation, where filler is masked."""
        return -(-batch_size // len(self.devices)) * len(self.devices)

    def map(self, fn: Callable[..., Any], *, donate_state: bool = False, more: int = 0) -> Mapped:
        """Maps a function over the devices.

        Args:
          fn: gets the whole state, this device's part of the batch, and perhaps more whole
            arguments; may use collectives over `AXIS`; its results must be equal on all devices.
          donate_state: whether the state's memory may be used for the result.
          more: how many arguments follow the batch.
        Returns:
          A function of (state from `replicate` or from an earlier result, batch from `shard`, and
          the other arguments, replicated).
        """
        donate = (0,) if donate_state else ()
        if self.kind == "pmap":
            return Mapped(
                fn,
                partial(
                    jax.pmap,
                    axis_name=AXIS,
                    in_axes=(None, 0, *(None,) * more),
                    out_axes=None,
                    devices=self.devices,
                    donate_argnums=donate,
                ),
            )

        def compiling(fn: Callable[..., Any]) -> Callable[..., Any]:
            # check_vma would insert a second sum of the gradients.
            mapped = jax.shard_map(
                fn,
                mesh=self._mesh,
                in_specs=(P(), P(AXIS), *(P(),) * more),
                out_specs=P(),
                check_vma=False,
            )
            return jax.jit(mapped, donate_argnums=donate)

        return Mapped(fn, compiling)

    def map_in_pieces(
        self,
        fn: Callable[..., Any],
        then: Callable[..., Any],
        *,
        like: Callable[[TrainState], Any],
        more: int = 0,
    ) -> Mapped:
        """Maps a function over the devices, which go on together, each with its pieces.

        Args:
          fn: (state without `opt_state` and `ema`, batch, ...) -> (added, rest), as in `map`. The
            arrays of `added` are pieces, by `reduce_scatter`; `rest` is equal on all devices.
          then: (state, added, rest) -> (state, record), a function of whole arrays, without
            collectives. Each device computes the pieces of its result that it has; the compiler
            adds what sums over the pieces need.
          like: (state) -> a tree with the shapes of `added`, whole.
          more: as in `map`.
        Returns:
          As `map`, with the optimizer's state and the EMA in pieces.
        """

        def run(state: TrainState, batch: Any, *rest: Any) -> Any:
            mapped = jax.shard_map(
                fn,
                mesh=self._mesh,
                in_specs=(P(), P(AXIS), *(P(),) * more),
                out_specs=(jax.tree.map(lambda x: self._piece(x.shape), like(state)), P()),
                check_vma=False,
            )
            summed = mapped(state.replace(opt_state=None, ema=None), batch, *rest)
            new_state, record = then(state, *summed)
            placed = self.shardings(new_state, in_pieces=True)
            return (
                jax.lax.with_sharding_constraint(new_state, placed),
                jax.lax.with_sharding_constraint(record, self.replicated),
            )

        return Mapped(run, partial(jax.jit, donate_argnums=0))

    def check_pieces(self) -> None:
        """Raises OptionError if the state cannot lie in pieces."""
        if self.kind != "shard_map":
            raise OptionError(
                "shard_state",
                f"shard_state is True and parallel is {self.kind!r}: use 'shard_map'",
            )

    def _piece(self, shape: Sequence[int]) -> P:
        """How an array is cut."""
        count = len(self.devices)
        for axis, size in enumerate(shape):
            if size and size % count == 0:
                return P(*(None,) * axis, AXIS)
        return P()

    def reduce_scatter(self, tree: Any) -> Any:
        """Adds arrays over the devices, within a mapped function; each gets its pieces of them."""

        def add(x: jax.Array) -> jax.Array:
            piece = self._piece(x.shape)
            if not len(piece):
                return jax.lax.psum(x, AXIS)
            return jax.lax.psum_scatter(x, AXIS, scatter_dimension=len(piece) - 1, tiled=True)

        return jax.tree.map(add, tree)

    def shardings(self, state: TrainState, *, in_pieces: bool) -> TrainState:
        """How each array of a state, or of its shapes, lies on the devices.

        Args:
          state: the state.
          in_pieces: whether the optimizer's state and the EMA are cut.
        """

        def cut(x: Any) -> NamedSharding:
            return NamedSharding(self._mesh, self._piece(x.shape) if in_pieces else P())

        whole = jax.tree.map(lambda _: self.replicated, state)
        return whole.replace(
            opt_state=jax.tree.map(cut, state.opt_state), ema=jax.tree.map(cut, state.ema)
        )

    def place(self, tree: Any, shardings: Any) -> Any:
        """Copies arrays, which every process has whole, to where they lie on the devices."""

        def put(x: Any, sharding: NamedSharding) -> jax.Array:
            host = np.asarray(x)
            return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

        return jax.tree.map(put, tree, shardings)

    def whole(self, tree: Any) -> Any:
        """Copies arrays that lie in pieces to every device whole."""
        return jax.jit(lambda x: x, out_shardings=self.replicated)(tree)

    def fetch(self, tree: Any) -> Any:
        """Copies arrays to the host, whole, however they lie; called by all processes together."""

        def near(x: Any) -> Any:
            there = not isinstance(x, jax.Array) or x.is_fully_addressable
            if there or x.is_fully_replicated:
                return x
            return multihost_utils.process_allgather(x, tiled=True)

        return jax.device_get(jax.tree.map(near, tree))

    def shard(self, batch: Any) -> Any:
        """Moves this process's part of a global batch to its devices.

        Args:
          batch: numpy arrays [b, ...].
        Returns:
          The batch, as a mapped function takes it.
        """
        sharding = self.sharded

        def place(x: np.ndarray) -> jax.Array:
            if self.kind == "pmap":
                x = x.reshape(self._local, len(x) // self._local, *x.shape[1:])
            return jax.make_array_from_process_local_data(sharding, x)

        return jax.tree.map(place, batch)

    def replicate(self, tree: Any) -> Any:
        """Copies every array to every device of every process.

        A mapped function must start from such copies: a state that is a plain local array is lost
        at the second step when several processes donate it.
        """
        return self.place(tree, jax.tree.map(lambda _: self.replicated, tree))

    @property
    def replicated(self) -> NamedSharding:
        """How the state lies on the devices."""
        return NamedSharding(self._mesh, P())

    @property
    def sharded(self) -> NamedSharding:
        """How a batch lies on the devices: cut along its first axis."""
        return NamedSharding(self._mesh, P(AXIS))

    def agree(self, value: bool) -> bool:
        """Whether the value is True in every process."""
        if jax.process_count() == 1:
            return value
        return bool(multihost_utils.process_allgather(np.array(value)).all())

    def barrier(self, name: str) -> None:
        """Waits until every process is here."""
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(name)
