"""Plans a training: compiles its steps for devices that need not be there, and counts the cost."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxvision.core import InputError, Task
from jaxvision.engine import Parallel, Phase, abstract_state, evaluation_step, make_update
from jaxvision.engine.phases import stages_of
from jaxvision.planning.cost import Cost, cost_of, flops_of
from jaxvision.planning.hardware import Target, parse_target
from jaxvision.planning.hlo import parse_program
from jaxvision.planning.topology import compiler_options, devices_of

_TRIES = 4
"""Compilations at most to find the largest batch, after the first."""


@dataclass(frozen=True)
class Memory:
    """Bytes that a compiled program needs on each device.

    Attributes:
      arguments: the state and this device's part of the batch.
      results: of which those in the place of arguments are not counted.
      temporaries: at their peak.
      code: of the program.
      available: what the device has; None: not known.
    """

    arguments: int
    results: int
    temporaries: int
    code: int
    available: int | None = None

    @property
    def total(self) -> int:
        """All together."""
        return self.arguments + self.results + self.temporaries + self.code

    @property
    def fits(self) -> bool:
        """Whether the device has as much, or it is not known."""
        return self.available is None or self.total <= self.available


@dataclass(frozen=True)
class StepPlan:
    """What one step costs.

    Attributes:
      batch_size: of the global batch.
      compile_seconds: that XLA took.
      memory: of each device.
      flops: dtype -> FLOPs of convolutions and matrix products on each device.
      cost: of each device.
      seconds: least time of a step by each limit, as far as it is known: "compute" (FLOPs at the
        peak), "memory" (bytes moved at the memory's bandwidth) and "network" (bytes of collectives
        around a ring).
    """

    batch_size: int
    compile_seconds: float
    memory: Memory
    flops: dict[str, float]
    cost: Cost
    seconds: dict[str, float]

    @property
    def least_seconds(self) -> float | None:
        """A lower bound of the step's time: the largest limit; None where none is known."""
        return max(self.seconds.values(), default=None)

    @property
    def most_images_per_second(self) -> float | None:
        """An upper bound of the throughput of all devices; None where it is not known."""
        return self.batch_size / self.least_seconds if self.least_seconds else None


@dataclass(frozen=True)
class Plan:
    """What a training needs.

    Attributes:
      target: the devices.
      train: the training step.
      evaluation: the evaluation step, or None.
      largest_batch: the largest global batch whose training step was found to fit; None: it was not
        looked for.
    """

    target: Target
    train: StepPlan
    evaluation: StepPlan | None = None
    largest_batch: int | None = None


def plan(
    task: Task,
    optimizer: optax.GradientTransformation | Phase,
    batch: Any,
    *,
    target: str | Target,
    eval_batch: Any = None,
    ema_decay: float = 0.0,
    accumulate: int = 1,
    shard_state: bool = False,
    largest_batch: bool = True,
    log: Callable[[str], None] | None = None,
) -> Plan:
    """Compiles the training step of a task for some devices, and counts what it costs.

    The devices need not be there: XLA compiles for GPUs and TPUs on a CPU. The step is the one that
    `fit` runs, mapped by shard_map. Everything that is counted follows from the program alone, so
    that it is the same each time, except for the seconds of the compilation.

    Args:
      task: what is trained.
      optimizer: one of optax's, or a phase with it.
      batch: a global batch, or its shapes and dtypes.
      target: the devices, see `parse_target`.
      eval_batch: a global batch of the evaluation, or its shapes and dtypes; None: the evaluation
        step is not planned.
      ema_decay, accumulate, shard_state: as `fit` takes them.
      largest_batch: whether to look for the largest batch that fits: from the memory of two sizes,
        confirmed by compiling it, which takes two to four more compilations.
      log: shows a line to the user for each compilation; None: nothing.
    Raises:
      OptionError: the target has an unknown form.
      InputError: what compiles for it is not installed; the devices do not divide the batch, or the
        step does not fit into their memory.
    """
    target = parse_target(target) if isinstance(target, str) else target
    log = log or (lambda line: None)
    parallel = Parallel("shard_map", devices=devices_of(target))
    size = len(batch.mask)
    parallel.check_batch_size(size, accumulate)
    phase = stages_of(optimizer, getattr(optimizer, "steps", None) or 1, freeze=task.freeze)[
        -1
    ].phase
    state = abstract_state(task, phase, ema_decay=ema_decay)
    state = jax.tree.map(_on, state, parallel.shardings(state, in_pieces=shard_state))
    variables = jax.tree.map(lambda x: _on(x, parallel.replicated), state.eval_variables)
    seed = jax.ShapeDtypeStruct((), jnp.uint32, sharding=parallel.replicated)
    how = {"ema_decay": ema_decay, "accumulate": accumulate, "shard_state": shard_state}

    def training(size: int) -> StepPlan:
        update = make_update(task, phase, parallel=parallel, **how)
        arguments = (state, _sized(batch, size, parallel), seed)
        return _compiled("the training step", update, arguments, size, target, log)

    train = training(size)
    measured = None
    if eval_batch is not None:
        size = parallel.fitting(len(eval_batch.mask))
        arguments = (variables, _sized(eval_batch, size, parallel))
        step = evaluation_step(task, parallel=parallel)
        measured = _compiled("the evaluation", step, arguments, size, target, log)
    largest = _largest(training, train, target, multiple=accumulate) if largest_batch else None
    return Plan(target, train, measured, largest)


def _on(x: Any, sharding: Any) -> jax.ShapeDtypeStruct:
    """The shape and dtype of an array as it lies on the devices."""
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)


def _sized(batch: Any, size: int, parallel: Parallel) -> Any:
    """Shapes and dtypes of a global batch of another size, cut over the devices."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype, sharding=parallel.sharded),
        batch,
    )


def _compiled(
    what: str,
    step: Any,
    arguments: tuple[Any, ...],
    batch_size: int,
    target: Target,
    log: Callable[[str], None],
) -> StepPlan:
    lowered = step.lower(*arguments)
    start = time.perf_counter()
    try:
        compiled = lowered.compile(compiler_options=dict(compiler_options(target)))
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise InputError(
            f"{what} of a batch of {batch_size} does not fit into the memory of {target}: give a "
            "smaller batch, or more devices"
        ) from error
    seconds = time.perf_counter() - start
    log(f"compiled {what} of a batch of {batch_size} for {target} in {seconds:.1f} s")
    hardware, found = target.hardware, compiled.memory_analysis()
    memory = Memory(
        arguments=found.argument_size_in_bytes,
        results=found.output_size_in_bytes - found.alias_size_in_bytes,
        temporaries=found.temp_size_in_bytes,
        code=found.generated_code_size_in_bytes,
        available=hardware.memory,
    )
    cost = cost_of(parse_program(compiled.as_text()))
    flops = flops_of(parse_program(lowered.as_text(dialect="hlo")))
    return StepPlan(batch_size, seconds, memory, flops, cost, _limits(flops, cost, target))


def _limits(flops: dict[str, float], cost: Cost, target: Target) -> dict[str, float]:
    """The least seconds of a step by each limit that is known."""
    hardware, seconds = target.hardware, {}
    if hardware.peak:
        least = min(hardware.peak.values())
        seconds["compute"] = sum(x / hardware.peak.get(dtype, least) for dtype, x in flops.items())
    if hardware.bandwidth:
        seconds["memory"] = cost.nbytes / hardware.bandwidth
    if target.link and target.devices > 1:
        # Around a ring each device sends all but its own part, and in an all-reduce twice.
        share = (target.devices - 1) / target.devices
        passes = {"all-reduce": 2 * share, "all-gather": target.devices - 1}
        sent = sum(passes.get(x.kind, share) * x.nbytes for x in cost.collectives)
        seconds["network"] = sent / target.link
    return seconds


def _largest(
    training: Callable[[int], StepPlan], first: StepPlan, target: Target, *, multiple: int = 1
) -> int | None:
    """The largest batch that fits, extrapolated and confirmed; None where memory is not known.

    That of a device is a multiple of a number.
    """
    devices, available = target.devices * multiple, first.memory.available
    if available is None:
        return None
    sizes = {first.batch_size // devices: first.memory.total}

    def measure(local: int) -> bool:
        try:
            memory = training(local * devices).memory
        except InputError:  # not even compiled
            return False
        sizes[local] = memory.total
        return memory.fits

    (one,) = sizes
    measure(one // 2 if one > 1 else 2)
    best = max((local for local, total in sizes.items() if total <= available), default=0)
    too_large = min((local for local, total in sizes.items() if total > available), default=None)
    for _ in range(_TRIES - 1):
        local = _extrapolated(sizes, available)
        if too_large is not None:
            local = min(local, too_large - 1)
        if local <= best:
            break
        if measure(local):
            best = local
            if local >= 0.95 * _extrapolated(sizes, available):
                break
        else:
            too_large = local
            sizes.setdefault(local, math.ceil(1.05 * available))
    return best * devices


def _extrapolated(sizes: dict[int, int], available: int) -> int:
    """The batch of a device whose memory is the available, by a line through the two largest."""
    (small, less), (large, more) = sorted(sizes.items())[-2:]
    slope = max((more - less) / (large - small), 1)
    local = large + (available - more) / slope
    step = 8 if local >= 16 else 1  # sizes that suit matrix units
    return max(0, int(local // step * step))
