"""Batches of a network's inputs, of one image or of several."""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

import jax

T = TypeVar("T")


class Parts(Protocol):
    """What an image needs of the network: some inputs, each of which becomes a row of a batch.

    Attributes:
      run: (1 to `batch_size` inputs) -> what the network gives for them, with a leading axis, still
        on the device; it fills the batch up.
      shape: of the inputs. Those of one shape and one `run` share batches.
    """

    run: Callable[[Sequence[Any]], Any]
    shape: Hashable

    def __len__(self) -> int:
        """How many inputs there are."""

    def __getitem__(self, number: int) -> Any:
        """The input with a number, which is made now."""

    def put(self, number: int, output: Any) -> None:
        """Takes what the network gives for an input, on the host."""


P = TypeVar("P", bound=Parts)


class _Waiting(Generic[T]):
    """An item that waits for the network.

    Attributes:
      item: as it was given.
      parts: what it needs; None: nothing.
      key: what shares batches with it.
      missing: inputs that are not computed yet.
    """

    def __init__(self, item: T, parts: Parts | None):
        self.item, self.parts = item, parts
        self.key = None if parts is None else (parts.run, parts.shape)
        self.missing = 0 if parts is None else len(parts)


def run_in_batches(
    items: Iterable[tuple[T, Parts | None]], *, batch_size: int, most: int
) -> Iterator[T]:
    """Runs the network on the inputs of many images, in full batches as far as possible.

    While one batch is computed, the next one is made.

    Args:
      items: each with what it needs of the network; None: nothing.
      batch_size: inputs in a batch.
      most: items that wait for others: beyond it, a batch is run that is not full.
    Yields:
      the items in their order, each when all its inputs are computed.
    """
    groups: dict[Hashable, list[tuple[_Waiting[T], int]]] = {}
    waiting: deque[_Waiting[T]] = deque()
    running: deque[tuple[list[tuple[_Waiting[T], int]], Any]] = deque()

    def start(key: Hashable) -> None:
        group = groups.pop(key)
        run = group[0][0].parts.run
        running.append((group, run([item.parts[number] for item, number in group])))
        if len(running) > 1:
            collect()

    def collect() -> None:
        group, outputs = running.popleft()
        outputs = jax.device_get(outputs)
        for row, (item, number) in enumerate(group):
            item.parts.put(number, jax.tree.map(lambda x, row=row: x[row], outputs))
            item.missing -= 1

    def hurry(item: _Waiting[T]) -> None:
        """Goes on with what an item waits for."""
        if any(other is item for other, _ in groups.get(item.key, ())):
            start(item.key)
        else:
            collect()

    for given, parts in items:
        item = _Waiting(given, parts)
        waiting.append(item)
        for number in range(item.missing):
            group = groups.setdefault(item.key, [])
            group.append((item, number))
            if len(group) == batch_size:
                start(item.key)
        while waiting and (not waiting[0].missing or len(waiting) > most):
            if waiting[0].missing:
                hurry(waiting[0])
            else:
                yield waiting.popleft().item
    while waiting:
        while waiting[0].missing:
            hurry(waiting[0])
        yield waiting.popleft().item


def computed(parts: P, batch_size: int) -> P:
    """Runs the network on the inputs of one image, and returns what it was given."""
    (found,) = run_in_batches([(parts, parts)], batch_size=batch_size, most=1)
    return found
