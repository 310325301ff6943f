"""Batches on the devices before they are needed."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from jaxvision.core import DataIterator, InputError
from jaxvision.engine.parallel import Parallel


class Peeked:
    """Training data of which the first batch can be looked at before it is used.

    Args:
      data: host batches; `get_state` and `set_state` may be missing.
    """

    def __init__(self, data: DataIterator):
        self._data = data
        self._first: Any = None
        self._before: Any = None

    def first(self) -> Any:
        """The next batch, which `next` gives as well."""
        if self._first is None:
            self._before = self.get_state()
            self._first = next(self)
        return self._first

    def __next__(self) -> Any:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        try:
            return next(self._data)
        except StopIteration as error:
            raise InputError(
                "the training data ended before the training did: give an endless iterator, or "
                "fewer steps"
            ) from error

    def get_state(self) -> Any:
        """The position, as of the data; None of data without positions."""
        if self._first is not None:
            return self._before
        return self._data.get_state() if hasattr(self._data, "get_state") else None

    def set_state(self, state: Any) -> None:
        """Goes to a position."""
        self._first = None
        self._data.set_state(state)


@dataclass
class Waiting:
    """How long a training waited for data.

    Attributes:
      seconds: in all.
    """

    seconds: float = 0.0


def prefetch(
    data: DataIterator, parallel: Parallel, *, depth: int = 2, waiting: Waiting | None = None
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Reads and transfers batches in a thread.

    Args:
      data: host batches.
      parallel: the devices.
      depth: batches kept ready.
      waiting: gets the time that is spent here on batches that are not ready.
    Yields:
      (batch on the devices, the data's state right after it). The state is what to save once the
      batch is used; the iterator itself is `depth` batches ahead.
    """

    def fetch() -> tuple[Any, dict[str, Any]]:
        batch = parallel.shard(next(data))
        return batch, data.get_state()

    waiting = Waiting() if waiting is None else waiting
    pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
    ready: deque[Future] = deque(pool.submit(fetch) for _ in range(depth))
    try:
        while True:
            began = perf_counter()
            item = ready.popleft().result()
            waiting.seconds += perf_counter() - began
            ready.append(pool.submit(fetch))
            yield item
    finally:
        pool.shutdown(cancel_futures=True)
