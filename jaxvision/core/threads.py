"""Threads beside the program: work that is done ahead, in order."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")


def in_order(
    function: Callable[[S], T], items: Iterable[S], *, ahead: int, threads: int | None = None
) -> Iterator[T]:
    """Applies a function to items in threads, and yields the results in the order of the items.

    Args:
      function: of one item; what it raises is raised here in its turn.
      items: are taken in the thread of the caller, when there is room for them.
      ahead: items whose results are computed or kept, beside the one that is yielded.
      threads: how many; None: one for each core.
    Yields:
      the results. If no more of them are asked for, what is being computed is finished, and what is
      not begun never is.
    """
    pool = ThreadPoolExecutor(threads or os.cpu_count() or 1, thread_name_prefix="in_order")
    begun: deque[Future[T]] = deque()
    try:
        for item in items:
            begun.append(pool.submit(function, item))
            if len(begun) > ahead:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
