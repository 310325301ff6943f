"""Data iterators over given batches, again and again."""


class Stream:
    def __init__(self, batches):
        self._batches, self._position = batches, 0

    def __next__(self):
        batch = self._batches[self._position % len(self._batches)]
        self._position += 1
        return batch

    def get_state(self):
        return {"position": self._position}

    def set_state(self, state):
        self._position = state["position"]


class InterruptedRunError(Exception):
    """Stands for the loss of the process."""


class Breaking(Stream):
    """A stream that breaks off."""

    def __init__(self, batches, after):
        super().__init__(batches)
        self._after = after

    def __next__(self):
        if self._position == self._after:
            raise InterruptedRunError
        return super().__next__()


class Acting(Stream):
    """A stream that does something else while it reads a batch."""

    def __init__(self, batches, after, action):
        super().__init__(batches)
        self._after, self._action = after, action

    def __next__(self):
        if self._position == self._after:
            self._action()
        return super().__next__()
