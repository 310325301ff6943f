"""What the commands for a folder of images with boxes share: flags, problems, figures."""

import pathlib
from collections.abc import Sequence

from absl import flags

from jaxvision.cli.options import flag_errors
from jaxvision.cli.report import file_name
from jaxvision.core import InputError
from jaxvision.data import (
    FORMS,
    Annotation,
    Listing,
    Problem,
    find_form,
    list_folder,
    sort_out,
)
from jaxvision.data import image_size as read_image_size
from jaxvision.engine import log, progress_bar

ANNOTATION_FLAGS = ("data", "form", "class_names", "first_pixel")
"""That say which annotations to read, but for their split."""
FOLDER_FLAGS = (*ANNOTATION_FLAGS, "split")


def annotation_flags() -> flags.FlagValues:
    """`ANNOTATION_FLAGS`."""
    values = flags.FlagValues()
    flags.DEFINE_string("data", None, "folder of the images and annotations", flag_values=values)
    flags.DEFINE_enum(
        "form",
        None,
        list(FORMS),
        f"form of the annotations, {', '.join(FORMS)}; found out if it is left out",
        flag_values=values,
    )
    flags.DEFINE_list(
        "class_names",
        [],
        "names of the classes, in the labels' order; those that the data names if left out",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "first_pixel", 1, "voc: what the files call an image's first pixel", flag_values=values
    )
    return values


def folder_flags() -> flags.FlagValues:
    """`FOLDER_FLAGS`, and --out."""
    values = annotation_flags()
    flags.DEFINE_string(
        "split", "train", "part of the data, or several, as a/train+b/train", flag_values=values
    )
    flags.DEFINE_string("out", ".", "folder for the picture", flag_values=values)
    return values


def check_config(values: flags.FlagValues, name: str, others: Sequence[str]) -> None:
    """Raises InputError unless a config is for detection, and no flag names other data.

    Args:
      values: the flags, with the config.
      name: of the config.
      others: the flags whose part its keys take.
    """
    if values.config.task != "detection":
        raise InputError(f"--config={name} is for {values.config.task}: give one for detection")
    given = [flag for flag in others if values[flag].present]
    if given:
        raise InputError(
            f"--{given[0]} does not go with --config: set the keys of its data instead, such as "
            "--config.data.image_size"
        )


def read_listing(values: flags.FlagValues, split: str) -> Listing:
    """What a split of the folder that `ANNOTATION_FLAGS` name has.

    Raises:
      InputError: no folder is given, or it cannot be read.
    """
    if not values.data:
        raise InputError("no --data: give the folder of the images and annotations")
    folder, names = pathlib.Path(values.data).expanduser(), tuple(values.class_names)
    with flag_errors():
        form = values.form or find_form(folder, split)
        listing = list_folder(
            folder,
            form,
            split,
            class_names=names or None,
            first_pixel=values.first_pixel,
            masks=True,  # to be checked with the boxes
        )
    if names and names != listing.class_names:  # those of COCO are in its file
        raise InputError(
            f"the classes of the data are {', '.join(listing.class_names)}, but --class_names is "
            f"{', '.join(names)}: leave it out"
        )
    log(f"{folder} {split}: annotations in the form {form}")
    return listing


def checked(listing: Listing, *, decode: bool) -> tuple[list[Annotation], list[Problem]]:
    """The annotations without problems, and all problems.

    Args:
      listing: of a folder.
      decode: read all of each image, not just its header.
    """
    shown = progress_bar(listing.annotations, "checking images", visible=True)
    sound, problems = sort_out(shown, decode=decode)
    return sound, [*listing.problems, *problems]


def image_size(annotation: Annotation) -> tuple[int, int]:
    """(height, width) of a sound annotation's image."""
    return annotation.size or read_image_size(annotation.image)


def picture_file(values: flags.FlagValues, name: str) -> pathlib.Path:
    """Where a picture of the split goes; makes the folder.

    Args:
      values: the flags.
      name: of what it shows.
    """
    folder = pathlib.Path(values.out).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}_{file_name(values.split)}.png"
