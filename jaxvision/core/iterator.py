"""The interface of training data."""

from typing import Any, Protocol


class DataIterator(Protocol):
    """An endless iterator over batches on the host, whose position can be saved.

    After n calls of `next`, `get_state()` returns the position after n batches as plain JSON;
    `set_state(state)` moves an equal iterator to this position. Each batch is this process's part
    of the global batch: a struct of numpy arrays with a leading axis and a field `mask`.
    """

    def __next__(self) -> Any: ...

    def get_state(self) -> dict[str, Any]: ...

    def set_state(self, state: dict[str, Any]) -> None: ...
