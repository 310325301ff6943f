"""A plan as a table for people."""

from collections.abc import Callable, Iterator

from jaxvision.planning.cost import CONVOLUTIONS, PRODUCTS
from jaxvision.planning.planning import Plan, StepPlan

_WIDTH = 30


def describe(plan: Plan) -> str:
    """Describes a plan: a line for each thing that was counted, a column for each step."""
    steps = [step for step in (plan.train, plan.evaluation) if step is not None]
    titles = ("training step", "evaluation")[: len(steps)]
    count, title = plan.target.devices, plan.target.hardware.title
    size = plan.train.batch_size
    lines = [
        f"{plan.target}: {count} x {title}; a batch of {size:,}, {size // count:,} a device",
        "",
        _row("of each device", titles),
    ]
    lines += [_row(name, map(cell, steps)) for name, cell in _rows(steps)]
    if plan.largest_batch is not None:
        each = plan.largest_batch // count
        found = f"{plan.largest_batch:,}, {each:,} a device" if each else "none fits"
        lines += ["", f"largest batch whose training step fits: {found}"]
    return "\n".join(lines)


def _row(name: str, cells: Iterator[str] | tuple[str, ...]) -> str:
    return (f"{name:<{_WIDTH}}" + "".join(f"{cell:>{_WIDTH}}" for cell in cells)).rstrip()


def _rows(steps: list[StepPlan]) -> Iterator[tuple[str, Callable[[StepPlan], str]]]:
    """(name, step -> cell) of each row."""
    yield "compiled in", lambda step: f"{step.compile_seconds:.1f} s"
    yield "memory", lambda step: _of_available(step)
    for name in ("arguments", "results", "temporaries", "code"):
        yield f"  {name}", lambda step, name=name: _bytes(getattr(step.memory, name))
    yield "FLOPs", lambda step: _flops(sum(step.flops.values()))
    for dtype in sorted({dtype for step in steps for dtype in step.flops}):
        yield f"  {dtype}", lambda step, dtype=dtype: _flops(step.flops.get(dtype, 0.0))
    yield "bytes moved", lambda step: _bytes(step.cost.nbytes)
    for kind in steps[0].cost.traffic:
        yield f"  {kind}", lambda step, kind=kind: _bytes(step.cost.traffic[kind])
    kinds = sorted({x.kind for step in steps for x in step.cost.collectives})
    for kind in kinds or ["collectives"]:
        yield kind, lambda step, kind=kind: _collectives(step, kind)
    for what in (CONVOLUTIONS, PRODUCTS):
        yield what, lambda step, what=what: _counts(step.cost.dtypes[what])
    yield "kernels", lambda step: f"{step.cost.kernels:,}"
    yield "loops of unknown length", lambda step: str(step.cost.loops)
    yield "branches", lambda step: str(step.cost.conditionals)
    yield "calls of the host", lambda step: str(step.cost.host_calls)
    if not steps[0].seconds:
        return
    for limit in steps[0].seconds:
        yield f"least time, {limit}", lambda step, limit=limit: _milliseconds(step.seconds[limit])
    yield "images/s of all, at most", lambda step: f"{step.most_images_per_second or 0:,.0f}"


def _of_available(step: StepPlan) -> str:
    memory = step.memory
    if memory.available is None:
        return _bytes(memory.total)
    fits = "" if memory.fits else ": too much"
    return f"{_bytes(memory.total)} of {_bytes(memory.available)}{fits}"


def _bytes(count: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"


def _flops(count: float) -> str:
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if count >= size:
            return f"{count / size:.4g} {unit}"
    return f"{count:.0f}"


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms"


def _collectives(step: StepPlan, kind: str) -> str:
    found = [f"{x.count}, {_bytes(x.nbytes)}" for x in step.cost.collectives if x.kind == kind]
    return found[0] if found else "none"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {dtype}" for dtype, count in sorted(counts.items())) or "none"
