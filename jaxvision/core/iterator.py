"""The interface of training data."""

from typing import Any, Protocol


class DataIterator(Protocol):
    """An endless stream of host batches whose position can be saved.

    `get_state()` after n calls of `next` describes the position after n batches, as plain JSON;
    `set_state(state)` on an equal iterator goes there. Each batch is this process's part of the
    global batch: a struct of numpy arrays with a leading axis and a field `mask`.
    """

    def __next__(self) -> Any: ...

    def get_state(self) -> dict[str, Any]: ...

    def set_state(self, state: dict[str, Any]) -> None: ...
