"""jaxvision: computer vision in JAX.

jaxvision train --config=digits_lenet5 --workdir=DIR      train, fine-tune or resume a run
jaxvision eval --workdir=DIR                              evaluate its best checkpoint
jaxvision predict --workdir=DIR --out=DIR photo.jpg       predict for images
jaxvision check-data --data=DIR                           list the problems of images with boxes
jaxvision anchors --data=DIR --k=5                        find anchors for a detector by k-means
jaxvision crop-objects --data=DIR --out=DIR               cut objects out, into class folders
jaxvision features --workdir=DIR --out=FILE photo.jpg     extract features of images
jaxvision probe --train=FILE --test=FILE --out=DIR        fit linear classifiers to features
jaxvision neighbors --index=FILE --queries=FILE --out=DIR find nearest neighbors of features
jaxvision models                                          list the networks
jaxvision convert resnet50 weights.safetensors DIR        convert weights of torch, or back
jaxvision COMMAND --help                                  help for one command
"""

import logging
import sys
from collections.abc import Callable

import absl.logging

from jaxvision.cli import (
    anchors,
    check_data,
    convert,
    crop_objects,
    features,
    models,
    neighbors,
    predict,
    probe,
)
from jaxvision.cli import eval as eval_command
from jaxvision.cli import train as train_command
from jaxvision.cli.arguments import HelpAsked
from jaxvision.core import InputError, lookup
from jaxvision.engine import DamagedError, NonFiniteError

COMMANDS: dict[str, Callable[[list[str]], int | None]] = {
    "train": train_command.main,
    "eval": eval_command.main,
    "check-data": check_data.main,
    "anchors": anchors.main,
    "crop-objects": crop_objects.main,
    "predict": predict.main,
    "features": features.main,
    "probe": probe.main,
    "neighbors": neighbors.main,
    "models": models.main,
    "convert": convert.main,
}


_GOES_ON = {"train": ": the same command resumes from the last checkpoint"}


def run(command: str, argv: list[str]) -> int:
    """Runs a command; an error of the user's is one line on stderr.

    Args:
      command: a key of `COMMANDS`.
      argv: its arguments, the program's name first.
    Returns:
      The exit code: the command's own, or 0; 2 for wrong input; 1 for a run that failed; 130 when
      interrupted.
    """
    logging.basicConfig(format="%(levelname)s: %(message)s")
    absl.logging.set_verbosity(absl.logging.ERROR)  # Orbax logs a lot
    try:
        return lookup(COMMANDS, command, "command")(argv) or 0
    except HelpAsked as asked:
        print(asked)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (DamagedError, NonFiniteError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted{_GOES_ON.get(command, '')}", file=sys.stderr)
        return 130
    return 0


def main() -> None:
    """The console script."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        print(__doc__.strip())
        sys.exit(0 if arguments else 2)
    sys.exit(run(arguments[0], [f"jaxvision {arguments[0]}", *arguments[1:]]))
