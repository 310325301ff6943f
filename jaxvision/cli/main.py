"""jaxvision: computer vision in JAX.

jaxvision train --config=digits_lenet5 --workdir=DIR      train, fine-tune or resume a run
jaxvision eval --workdir=DIR                              evaluate its best checkpoint
jaxvision eval --model=NAME --weights=FILE --data=DIR     evaluate third-party weights
jaxvision predict --workdir=DIR --out=DIR photo.jpg       predict for images and videos
jaxvision check-data --data=DIR                           list the problems of images with boxes
jaxvision anchors --data=DIR --k=5                        find anchors for a detector by k-means
jaxvision crop-objects --data=DIR --out=DIR               cut objects out, into class folders
jaxvision cache --data=DIR --out=DIR                      decode images once, to train faster
jaxvision features --workdir=DIR --out=FILE photo.jpg     extract features of images
jaxvision probe --train=FILE --test=FILE --out=DIR        fit linear classifiers to features
jaxvision neighbors --index=FILE --queries=FILE --out=DIR find nearest neighbors of features
jaxvision models                                          list the networks
jaxvision plan --config=NAME --target=gpu-h200:8           what a training needs of GPUs or TPUs
jaxvision convert --model=NAME --weights=FILE DIR         convert weights of torch, or back
jaxvision COMMAND --help                                  help for one command

What takes long to compile is kept for the next command: at most 5 GB in ~/.cache/jaxvision/xla, or
in jaxvision/xla of $XDG_CACHE_HOME, which no other user may write. JAX_COMPILATION_CACHE_DIR=FOLDER
keeps it elsewhere, and JAX_ENABLE_COMPILATION_CACHE=false keeps nothing.
"""

import contextlib
import logging
import os
import select
import sys
from collections.abc import Callable, Iterator
from typing import Any

import absl.logging

from jaxvision.cli import (
    anchors,
    cache,
    check_data,
    convert,
    crop_objects,
    features,
    models,
    neighbors,
    plan,
    predict,
    probe,
    processes,
)
from jaxvision.cli import eval as eval_command
from jaxvision.cli import train as train_command
from jaxvision.cli.arguments import HelpAsked
from jaxvision.cli.compilations import keep_compilations
from jaxvision.core import InputError, lookup
from jaxvision.core.files import NoRoomError
from jaxvision.engine import DamagedError, NonFiniteError

COMMANDS: dict[str, Callable[[list[str]], int | None]] = {
    "train": train_command.main,
    "eval": eval_command.main,
    "check-data": check_data.main,
    "anchors": anchors.main,
    "crop-objects": crop_objects.main,
    "cache": cache.main,
    "predict": predict.main,
    "features": features.main,
    "probe": probe.main,
    "neighbors": neighbors.main,
    "models": models.main,
    "plan": plan.main,
    "convert": convert.main,
}


_KEEPS_COMPILATIONS = ("train", "eval", "predict", "features", "probe")
_GOES_ON = {"train": "; the same command resumes from the last checkpoint"}
_BROKEN_PIPE = 141  # as of a program that the signal of it ends


def run(command: str, argv: list[str]) -> int:
    """Runs a command; an error of the user's is one line on stderr.

    Args:
      command: a key of `COMMANDS`.
      argv: its arguments, the program's name first.
    Returns:
      The exit code: the command's own, or 0; 2 for wrong input; 1 for a run that failed, or where
      there is no room to write; 130 when interrupted; 141 if nobody reads the output any more.
    """
    logging.basicConfig(format="%(levelname)s: %(message)s")
    # Errors are raised too: what Orbax and its event loops log about them is long.
    absl.logging.set_verbosity(absl.logging.FATAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    if command in _KEEPS_COMPILATIONS:
        keep_compilations()
    with _quiet_threads():
        try:
            code = _with_output(lambda: _run(command, argv))
        except Exception as error:
            if not processes.several():
                raise
            processes.explain(error)
            code = 1
    processes.leave(code)
    return code


def _with_output(call: Callable[[], int]) -> int:
    """The exit code of a call that prints, whose output perhaps cannot be written."""
    try:
        code = call()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        _discard_output()
        return _BROKEN_PIPE
    except OSError as error:
        _discard_output()
        print(f"error: cannot write the output: {error}", file=sys.stderr)
        return 1


def _run(command: str, argv: list[str]) -> int:
    resumes = _GOES_ON.get(command, "")
    try:
        return lookup(COMMANDS, command, "command")(argv) or 0
    except HelpAsked as asked:
        print(asked)
        return 0
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError as error:
        if _nobody_reads():
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    except NoRoomError as error:
        print(f"error: {error}{resumes}", file=sys.stderr)
        return 1
    except (DamagedError, NonFiniteError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted{resumes}", file=sys.stderr)
        return 130


@contextlib.contextmanager
def _quiet_threads() -> Iterator[None]:
    """Leaves out that the event loop is closed which threads in C++ report to.

    After an error, reads and writes of arrays that were under way end so.
    """
    shown = sys.unraisablehook

    def show(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            shown(unraisable)

    sys.unraisablehook = show
    try:
        yield
    finally:
        sys.unraisablehook = shown


def _nobody_reads() -> bool:
    """Whether the other end of stdout or stderr is closed: a broken pipe may be another one."""
    poll = select.poll()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # a stream without a descriptor
            poll.register(stream, 0)
    return bool(poll.poll(0))


def _discard_output() -> None:
    """Lets Python close the output at its end without another error."""
    with contextlib.suppress(OSError):  # a stream without a descriptor
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def main() -> None:
    """Runs the command that the arguments of the program begin with."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        sys.exit(_with_output(lambda: print(__doc__.strip()) or (0 if arguments else 2)))
    sys.exit(run(arguments[0], [f"jaxvision {arguments[0]}", *arguments[1:]]))
