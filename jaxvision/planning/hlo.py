"""Reads programs of XLA from their text, as compiled programs and lowered ones give it."""

import re
from dataclasses import dataclass
from functools import cached_property

_BYTES = {
    **{"pred": 1, "s4": 0.5, "u4": 0.5, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "s32": 4, "u32": 4},
    **{"s64": 8, "u64": 8, "f16": 2, "bf16": 2, "f32": 4, "f64": 8, "c64": 8, "c128": 16},
}
"""Bytes of an element; those of eight bits, as f8e4m3fn, have 1; tokens and opaque values none."""

_SHAPE = re.compile(r"\b([a-z]\w*)\[([\d,]*)\](\{[^{}]*\})?")
_HEAD = re.compile(r"\s*(ROOT )?%?([\w.\-]+) = ")
_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.\-]+) (?:\(.*)?\{$")
_CALLED = re.compile(
    r"\b(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)"
    r"|\b(?:branch_computations|called_computations)=\{([^{}]*)\}"
)
_MEMORY_SPACE = re.compile(r"S\((\d+)\)")


@dataclass(frozen=True)
class Shape:
    """An array.

    Attributes:
      dtype: as XLA writes it, such as "bf16".
      sides: of its axes.
      layout: the order of its axes in memory, as XLA writes it, such as "3,2,1,0"; "": not known.
      in_memory: whether it is in the device's main memory, and not in a TPU's on-chip memory.
    """

    dtype: str
    sides: tuple[int, ...]
    layout: str = ""
    in_memory: bool = True

    @property
    def size(self) -> int:
        """How many elements it has."""
        size = 1
        for side in self.sides:
            size *= side
        return size

    @property
    def nbytes(self) -> int:
        """Its bytes."""
        width = _BYTES.get(self.dtype, 1 if self.dtype.startswith("f8") else 0)
        return int(self.size * width)


@dataclass(frozen=True)
class Instruction:
    """One operation of a computation.

    Attributes:
      name: unique in its computation.
      op: such as "convolution".
      shapes: of its result: several of a tuple.
      operands: names of other operations.
      attributes: the rest of its line.
      is_root: whether it is the computation's result.
    """

    name: str
    op: str
    shapes: tuple[Shape, ...]
    operands: tuple[str, ...]
    attributes: str
    is_root: bool = False

    @cached_property
    def called(self) -> tuple[str, ...]:
        """Names of the computations that it calls."""
        found = []
        for one, several in _CALLED.findall(self.attributes):
            found.extend([one] if one else re.findall(r"%?([\w.\-]+)", several))
        return tuple(found)

    def attribute(self, name: str) -> str:
        """The value of an attribute: what stands in its braces or quotes, or its word; ""."""
        found = re.search(
            rf'\b{name}=(?:\{{([^{{}}]*)\}}|"([^"]*)"|([^\s,{{}}]+))', self.attributes
        )
        return next((x for x in found.groups() if x is not None), "") if found else ""

    @property
    def nbytes(self) -> int:
        """Bytes of its result in the device's main memory."""
        return sum(shape.nbytes for shape in self.shapes if shape.in_memory)


Computation = dict[str, Instruction]
"""Name -> instruction, in their order."""


@dataclass(frozen=True)
class Program:
    """A program of XLA.

    Attributes:
      computations: by name.
      entry: name of the one that runs.
    """

    computations: dict[str, Computation]
    entry: str


def parse_program(text: str) -> Program:
    """Reads a program.

    Args:
      text: from `compiled.as_text()` or `lowered.as_text(dialect="hlo")`.
    Raises:
      ValueError: it has no entry.
    """
    computations: dict[str, Computation] = {}
    current: Computation | None = None
    entry = None
    for line in text.splitlines():
        if current is None or not line.startswith(" "):
            started = _COMPUTATION.match(line)
            if started:
                current = computations[started[2]] = {}
                entry = started[2] if started[1] else entry
            elif line.startswith("}"):
                current = None
            continue
        instruction = _instruction(line)
        if instruction is not None:
            current[instruction.name] = instruction
    if entry is None:
        raise ValueError("the text has no ENTRY: give a program of XLA as text")
    return Program(computations, entry)


def _instruction(line: str) -> Instruction | None:
    head = _HEAD.match(line)
    if head is None:
        return None
    rest = line[head.end() :]
    kind, rest = _split_type(rest)
    op, _, rest = rest.partition("(")
    inside, attributes = _split_balanced(rest)
    shapes = tuple(_shape(*found) for found in _SHAPE.findall(kind))
    # Operands of constants and parameters are values.
    operands = () if op in ("constant", "parameter") else _names(inside)
    if op in ("constant", "parameter"):
        attributes = f"{'value' if op == 'constant' else 'number'}={inside}{attributes}"
    return Instruction(head[2], op, shapes, operands, attributes, bool(head[1]))


def _names(operands: str) -> tuple[str, ...]:
    """Names of operands, before which some texts have their types."""
    plain = re.sub(r"/\*.*?\*/|\{[^{}]*\}|\[[^\[\]]*\]", "", operands)
    return tuple(part.split()[-1].lstrip("%") for part in plain.split(",") if part.strip())


def _shape(dtype: str, sides: str, layout: str) -> Shape:
    space = _MEMORY_SPACE.search(layout)
    numbers = tuple(int(side) for side in sides.split(",") if side)
    order = layout.strip("{}").partition(":")[0]
    return Shape(dtype, numbers, order, space is None or space[1] == "0")


def _split_type(text: str) -> tuple[str, str]:
    """The type at the beginning, and what follows it."""
    if not text.startswith("("):
        kind, _, rest = text.partition(" ")
        return kind, rest
    inside, rest = _split_balanced(text[1:])
    return inside, rest.lstrip()


def _split_balanced(text: str) -> tuple[str, str]:
    """What stands before the parenthesis that closes one which was opened before, and after it."""
    depth = 1
    for place in re.finditer(r"[()]", text):
        depth += 1 if place[0] == "(" else -1
        if not depth:
            return text[: place.start()], text[place.end() :]
    return text, ""
