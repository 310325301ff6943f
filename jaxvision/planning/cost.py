"""What a program of XLA costs: counted in its text, without running it."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from jaxvision.planning.hlo import Computation, Instruction, Program, Shape

CONVOLUTIONS, PRODUCTS, FUSIONS = "convolutions", "matrix products", "fusions"
COPIES, COLLECTIVES, OTHERS = "copies", "collectives", "others"
KINDS = (CONVOLUTIONS, PRODUCTS, FUSIONS, COPIES, COLLECTIVES, OTHERS)
"""What moves bytes. Fusions are elementwise operations and reductions, fused or not; others sort,
gather, pool, and so on."""

_COLLECTIVE_OPS = (
    *("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "ragged-all-to-all"),
    *("collective-permute", "collective-broadcast"),
)
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "opt-barrier"),
    *("partition-id", "replica-id", "domain", "add-dependency", "get-dimension-size"),
}
_INSIDE = {"call", "while", "conditional", "async-start"}
"""Operations whose cost is that of the computations they call."""
_COPYING = {
    "copy",
    "transpose",
    "copy-start",
    "slice",
    "reshape",
    "concatenate",
    "pad",
    "broadcast",
}
_OTHER = {
    *("sort", "gather", "scatter", "reduce-window", "select-and-scatter", "custom-call"),
    *("rng-bit-generator", "dynamic-slice", "dynamic-update-slice", "fft", "triangular-solve"),
}
_SLICING = {"dynamic-slice", "slice", "gather"}
_HOST = ("infeed", "outfeed", "send", "recv")
_DTYPES = {"bf16": "bfloat16", "f16": "float16", "f32": "float32", "f64": "float64", "s8": "int8"}
_WIDTHS = ("float64", "float32", "bfloat16", "float16")


class Collective(NamedTuple):
    """The collectives of one kind.

    Attributes:
      kind: such as "all-reduce".
      count: how many a step has.
      nbytes: that a device gives to them in a step.
    """

    kind: str
    count: int
    nbytes: int


@dataclass(frozen=True)
class Cost:
    """What one run of a compiled program costs each device.

    Attributes:
      traffic: kind of operation, of `KINDS` -> bytes that it reads from and writes to memory.
      collectives: by kind.
      dtypes: "convolutions" or "matrix products" -> dtype -> how many there are.
      kernels: operations that start a kernel.
      loops: loops of which the number of rounds is not known; they are counted as one round.
      conditionals: branches that are chosen when the program runs; all are counted.
      host_calls: calls of Python, and transfers with the host within the program.
      transposed: the arrays whose axes or layout a kernel changes, each form once, the largest
        first.
    """

    traffic: dict[str, int]
    collectives: tuple[Collective, ...]
    dtypes: dict[str, dict[str, int]]
    kernels: int
    loops: int
    conditionals: int
    host_calls: int
    transposed: tuple[Shape, ...]

    @property
    def nbytes(self) -> int:
        """All bytes that it moves."""
        return sum(self.traffic.values())


def cost_of(program: Program) -> Cost:
    """Counts what a compiled program costs.

    Bytes are those of the operands and results of each operation that runs as one kernel, as far as
    they are in the device's main memory; of what a kernel only takes slices of, those of the
    slices. What caches save is not known.

    Args:
      program: compiled, for one device.
    """
    traffic, count, nbytes = Counter(dict.fromkeys(KINDS, 0)), Counter(), Counter()
    dtypes = {CONVOLUTIONS: Counter(), PRODUCTS: Counter()}
    kernels = loops = conditionals = host_calls = 0
    transposed: set[Shape] = set()
    for computation, instruction, times, known in _runs(program):
        op = instruction.op
        loops += not known
        conditionals += op == "conditional"
        host_calls += _is_host_call(instruction)
        if op in _INSIDE or op in _FREE or op.endswith("-done"):
            continue
        kind = _kind(program, instruction)
        traffic[kind] += times * _moved(program, computation, instruction)
        kernels += times
        if kind == COLLECTIVES:
            name = _collective(op)
            count[name] += times
            nbytes[name] += times * _operand_bytes(computation, instruction)
        for what, dtype in _computed(program, computation, instruction):
            dtypes[what][dtype] += times
        transposed.update(_transposed(program, computation, instruction))
    return Cost(
        traffic=dict(traffic),
        collectives=tuple(Collective(kind, count[kind], nbytes[kind]) for kind in sorted(count)),
        dtypes={what: dict(found) for what, found in dtypes.items()},
        kernels=kernels,
        loops=loops,
        conditionals=conditionals,
        host_calls=host_calls,
        transposed=tuple(sorted(transposed, key=lambda shape: (-shape.nbytes, str(shape)))),
    )


def flops_of(program: Program) -> dict[str, float]:
    """Counts the FLOPs of convolutions and matrix products, two for a multiply-add.

    Zeros of the padding and between the pixels of a transposed convolution are not counted.

    Args:
      program: lowered, before XLA replaces operations; for one device.
    Returns:
      dtype -> FLOPs.
    """
    flops: Counter[str] = Counter()
    for computation, instruction, times, _ in _runs(program, fusions=True):
        count = {"convolution": _convolution_flops, "dot": _product_flops}.get(instruction.op)
        if count is not None:
            shapes = _operand_shapes(computation, instruction)
            flops[_widest(shapes)] += times * count(instruction, shapes)
    return dict(flops)


class _Run(NamedTuple):
    """An instruction that runs, how often, and whether that number is known."""

    computation: Computation
    instruction: Instruction
    times: int
    known: bool


def _runs(program: Program, *, fusions: bool = False) -> Iterator[_Run]:
    """The instructions that run, from the entry on."""
    inside = _INSIDE | ({"fusion"} if fusions else set())

    def walk(name: str, times: int) -> Iterator[_Run]:
        computation = program.computations[name]
        for instruction in computation.values():
            rounds = _rounds(program, computation, instruction)
            yield _Run(computation, instruction, times, rounds is not None)
            if instruction.op in inside:
                for called in instruction.called:
                    yield from walk(called, times * (rounds or 1))

    return walk(program.entry, 1)


def _rounds(program: Program, computation: Computation, instruction: Instruction) -> int | None:
    """How often an instruction runs what it calls; None: not known."""
    if instruction.op != "while":
        return 1
    found = re.search(r'"known_trip_count":\{"n":"(\d+)"', instruction.attributes)
    return int(found[1]) if found else _counted(program, computation, instruction)


def _counted(program: Program, computation: Computation, loop: Instruction) -> int | None:
    """The rounds of a loop as JAX lowers a scan: a counter goes from 0 to a constant by ones.

    None of a loop whose condition is another.
    """
    condition = program.computations[loop.attribute("condition").lstrip("%")]
    root = next(instruction for instruction in condition.values() if instruction.is_root)
    if root.op != "compare" or root.attribute("direction") != "LT":
        return None
    counter, limit = (condition[name] for name in root.operands)
    first = computation.get(loop.operands[0])
    if counter.op != "get-tuple-element" or first is None or first.op != "tuple":
        return None
    start = computation[first.operands[int(counter.attribute("index"))]]
    if not start.op == limit.op == "constant" or start.attribute("value") != "0":
        return None
    return int(limit.attribute("value")) if limit.shapes[0].dtype in ("s32", "s64") else None


def _inner(program: Program, instruction: Instruction) -> Iterator[tuple[Computation, Instruction]]:
    """The instructions of a fusion and of the fusions in it."""
    for name in instruction.called:
        computation = program.computations[name]
        for inner in computation.values():
            yield computation, inner
            if inner.op == "fusion":
                yield from _inner(program, inner)


def _collective(op: str) -> str:
    """The kind of a collective, or ""."""
    name = op.removesuffix("-start")
    return name if name in _COLLECTIVE_OPS else ""


def _is_host_call(instruction: Instruction) -> bool:
    if instruction.op == "custom-call":
        return "callback" in instruction.attribute("custom_call_target")
    return instruction.op in _HOST


def _kind(program: Program, instruction: Instruction) -> str:
    op = instruction.op
    if _collective(op):
        return COLLECTIVES
    if op == "custom-call":
        return _kind_of_call(instruction)
    ops = {op}
    if op == "fusion":
        ops = {inner.op for _, inner in _inner(program, instruction)} - _FREE - {"fusion"}
    if "convolution" in ops:
        return CONVOLUTIONS
    if "dot" in ops:
        return PRODUCTS
    if ops & _OTHER:
        return OTHERS
    return COPIES if ops <= _COPYING else FUSIONS


def _kind_of_call(instruction: Instruction) -> str:
    target = instruction.attribute("custom_call_target").lower()
    if "conv" in target:
        return CONVOLUTIONS
    return PRODUCTS if re.search("gemm|matmul|dot|fmha", target) else OTHERS


def _operand_shapes(computation: Computation, instruction: Instruction) -> list[Shape]:
    found = (computation[name] for name in instruction.operands if name in computation)
    return [shape for operand in found for shape in operand.shapes]


def _operand_bytes(computation: Computation, instruction: Instruction) -> int:
    shapes = _operand_shapes(computation, instruction)
    return sum(shape.nbytes for shape in shapes if shape.in_memory)


def _moved(program: Program, computation: Computation, instruction: Instruction) -> int:
    """Bytes that one kernel reads and writes."""
    if instruction.op == "fusion":
        return _moved_by_fusion(program, computation, instruction)
    if instruction.op == "copy-start":  # its result also has the operand
        written = instruction.shapes[0]
        read = _operand_bytes(computation, instruction)
        return read + (written.nbytes if written.in_memory else 0)
    if instruction.op in _SLICING:
        return 2 * instruction.nbytes
    if instruction.op == "dynamic-update-slice":
        return 2 * _operand_shapes(computation, instruction)[1].nbytes
    written = instruction.nbytes
    if instruction.op.endswith("-start"):
        written = min(written, _operand_bytes(computation, instruction))
    return _operand_bytes(computation, instruction) + written


def _moved_by_fusion(program: Program, computation: Computation, fusion: Instruction) -> int:
    """As `_moved`: of a buffer that is only sliced or written in part, the bytes of the parts."""
    (name,) = fusion.called[:1]
    body = program.computations[name]
    users: dict[str, list[Instruction]] = {}
    for inner in body.values():
        for operand in inner.operands:
            users.setdefault(operand, []).append(inner)
    parameters = {
        int(re.match(r"number=(\d+)", inner.attributes)[1]): inner
        for inner in body.values()
        if inner.op == "parameter"
    }
    root = next(inner for inner in body.values() if inner.is_root)
    updates = [x for x in body.values() if x.op == "dynamic-update-slice"]
    total = 0
    for number, operand in enumerate(fusion.operands):
        source, parameter = computation.get(operand), parameters.get(number)
        if source is None or not all(shape.in_memory for shape in source.shapes):
            continue
        uses = users.get(parameter.name, []) if parameter is not None else []
        total += min(source.nbytes, _read(source, parameter, uses)) if uses else source.nbytes
    if root.op == "dynamic-update-slice" or (root.op in _FREE and len(updates) == 1):
        update = updates[-1] if root.op in _FREE else root
        written = body[update.operands[1]]
        return total + written.nbytes
    return total + fusion.nbytes


def _read(source: Instruction, parameter: Instruction, uses: list[Instruction]) -> int:
    """Bytes that the uses of a parameter of a fusion read of it."""
    total = 0
    for use in uses:
        first = use.operands[:1] == (parameter.name,)
        if first and use.op in _SLICING:
            total += use.nbytes
        elif not (first and use.op == "dynamic-update-slice"):
            return source.nbytes
    return total


def _computed(
    program: Program, computation: Computation, instruction: Instruction
) -> Iterator[tuple[str, str]]:
    """(kind, dtype) of each convolution and matrix product of a kernel."""
    named = {"convolution": CONVOLUTIONS, "dot": PRODUCTS}
    if instruction.op == "custom-call":
        kind = _kind_of_call(instruction)
        if kind in (CONVOLUTIONS, PRODUCTS):
            yield kind, _widest(_operand_shapes(computation, instruction)[:2])
        return
    inside = _inner(program, instruction) if instruction.op == "fusion" else ()
    for body, inner in [(computation, instruction), *inside]:
        if inner.op in named:
            yield named[inner.op], _widest(_operand_shapes(body, inner)[:2])


def _widest(shapes: list[Shape]) -> str:
    names = [_DTYPES.get(shape.dtype, shape.dtype) for shape in shapes[:2]]
    return min(names, key=lambda x: _WIDTHS.index(x) if x in _WIDTHS else len(_WIDTHS))


def _transposed(
    program: Program, computation: Computation, instruction: Instruction
) -> Iterator[Shape]:
    """The results of transpositions in a kernel: of axes, or of the layout by a copy."""
    inside = _inner(program, instruction) if instruction.op == "fusion" else ()
    for body, inner in [(computation, instruction), *inside]:
        layouts = {shape.layout for shape in (*_operand_shapes(body, inner), *inner.shapes)}
        if inner.op == "transpose" or (inner.op == "copy" and len(layouts) > 1):
            yield from inner.shapes


def _product_flops(instruction: Instruction, shapes: list[Shape]) -> float:
    contracted = instruction.attribute("lhs_contracting_dims")
    axes = [int(axis) for axis in contracted.split(",") if axis]
    return 2.0 * instruction.shapes[0].size * math.prod(shapes[0].sides[axis] for axis in axes)


def _convolution_flops(instruction: Instruction, shapes: list[Shape]) -> float:
    image, kernel, result = (part for part in re.split("_|->", instruction.attribute("dim_labels")))
    lhs, rhs, out = shapes[0].sides, shapes[1].sides, instruction.shapes[0].sides
    window = dict(part.split("=") for part in instruction.attribute("window").split())
    axes = sorted(label for label in image if label.isdigit())

    def numbers(name: str, default: str) -> list[str]:
        return window[name].split("x") if name in window else [default] * len(axes)

    pairs = 1
    for place, axis in enumerate(axes):
        names = "stride", "lhs_dilate", "rhs_dilate"
        stride, spread, dilation = (int(numbers(name, "1")[place]) for name in names)
        pairs *= _pairs(
            inputs=lhs[image.index(axis)],
            taps=rhs[kernel.index(axis)],
            outputs=out[result.index(axis)],
            low=int(numbers("pad", "0_0")[place].split("_")[0]),
            stride=stride,
            spread=spread,
            dilation=dilation,
        )
    others = out[result.index("b")] * out[result.index("f")] * rhs[kernel.index("i")]
    return 2.0 * others * pairs


def _pairs(
    *, inputs: int, taps: int, outputs: int, low: int, stride: int, spread: int, dilation: int
) -> int:
    """How many pairs of an output and a tap of the kernel along one axis meet an input."""
    count = 0
    for tap in range(taps):
        # place = output stride + tap dilation - low is a multiple of spread, within the inputs.
        offset = tap * dilation - low
        for output in range(outputs) if spread > 1 else ():
            place = output * stride + offset
            count += place % spread == 0 and 0 <= place // spread < inputs
        if spread == 1:
            first = max(0, -(offset // stride))
            last = min(outputs - 1, (inputs - 1 - offset) // stride)
            count += max(0, last - first + 1)
    return count
