"""Batches on the devices before they are needed."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from jaxvision.core import DataIterator
from jaxvision.engine.parallel import Parallel


def prefetch(
    data: DataIterator, parallel: Parallel, *, depth: int = 2
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Reads and transfers batches in a thread.

    Args:
      data: host batches.
      parallel: the devices.
      depth: batches kept ready.
    Yields:
      (batch on the devices, the data's state right after it). The state is what to save once the
      batch is used; the iterator itself is `depth` batches ahead.
    """

    def fetch() -> tuple[Any, dict[str, Any]]:
        batch = parallel.shard(next(data))
        return batch, data.get_state()

    pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
    ready: deque[Future] = deque(pool.submit(fetch) for _ in range(depth))
    try:
        while True:
            item = ready.popleft().result()
            ready.append(pool.submit(fetch))
            yield item
    finally:
        pool.shutdown(cancel_futures=True)
