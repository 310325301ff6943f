"""The program around a command: it listens to signals before the imports, which take seconds."""

import os
import signal
import sys
from types import FrameType

_REASONS = {signal.SIGINT: "interrupted", signal.SIGTERM: "asked to stop"}


def main(command: str | None = None) -> None:
    """Runs the program, and ends it with the exit code of its command.

    Ctrl-C and SIGTERM end the process at once, with 128 and the number of the signal as its exit
    code: while libraries are imported, and in `train` whenever `fit` does not handle them itself.
    An exception would not always do this, because libraries catch some within their imports.

    Args:
      command: a key of `jaxvision.cli.main.COMMANDS`; None: the first argument of the program.
    """
    trains = "train" in (command, *sys.argv[1:2])
    for number in _REASONS:
        signal.signal(number, _end_and_resume if trains else _end)
    from jaxvision.cli import main as commands

    if not trains:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if command is None:
        commands.main()
    sys.exit(commands.run(command, sys.argv))


def _end(number: int, frame: FrameType | None, advice: str = "") -> None:
    """Ends this process and those that read data for it."""
    if "multiprocessing" in sys.modules:
        for process in sys.modules["multiprocessing"].active_children():
            process.kill()  # they ignore SIGTERM
    os.write(2, f"{_REASONS[number]}{advice}\n".encode())
    os._exit(128 + number)


def _end_and_resume(number: int, frame: FrameType | None) -> None:
    _end(number, frame, ": the same command resumes from the last checkpoint, if there is one")
