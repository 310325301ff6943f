"""What the commands about a folder of images with boxes share: flags, its listing, a picture."""

import pathlib
from types import SimpleNamespace
from typing import Any

from absl import flags

from jaxvision.cli.report import file_name
from jaxvision.core import InputError
from jaxvision.core.files import replacing
from jaxvision.data import (
    FORMS,
    Annotation,
    Listing,
    Problem,
    find_form,
    images,
    list_folder,
    sort_out,
)
from jaxvision.engine import say
from jaxvision.engine.progress import passing

FOLDER_FLAGS = ("data", "form", "split", "class_names", "first_pixel")
"""That say which annotations to read."""


def folder_flags() -> flags.FlagValues:
    """`FOLDER_FLAGS`, and --out."""
    values = flags.FlagValues()
    flags.DEFINE_string("data", None, "folder of the images and annotations", flag_values=values)
    flags.DEFINE_enum(
        "form",
        None,
        list(FORMS),
        f"form of the annotations, {', '.join(FORMS)}; found out if it is left out",
        flag_values=values,
    )
    flags.DEFINE_string(
        "split", "train", "part of the data, or several, as a/train+b/train", flag_values=values
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
    flags.DEFINE_string("out", ".", "folder for the picture", flag_values=values)
    return values


def read_listing(values: flags.FlagValues) -> Listing:
    """What the folder that the flags name has.

    Raises:
      InputError: no folder is given, or it cannot be read.
    """
    if not values.data:
        raise InputError("no --data: give the folder of the images and annotations")
    folder, names = pathlib.Path(values.data).expanduser(), tuple(values.class_names)
    form = values.form or find_form(folder, values.split)
    data = SimpleNamespace(
        source=form,
        dir=folder,
        class_names=names,
        first_pixel=values.first_pixel,
        masks=True,  # to be checked with the boxes
    )
    listing = list_folder(data, values.split)
    if names and names != listing.class_names:  # those of COCO are in its file
        raise InputError(
            f"the classes of the data are {', '.join(listing.class_names)}, but --class_names is "
            f"{', '.join(names)}: leave it out"
        )
    say(f"{folder} {values.split}: annotations in the form {form}")
    return listing


def checked(listing: Listing, *, decode: bool) -> tuple[list[Annotation], list[Problem]]:
    """The annotations without problems, and all problems.

    Args:
      listing: of a folder.
      decode: read all of each image, not just its header.
    """
    shown = passing(listing.annotations, "checking images", visible=True)
    sound, problems = sort_out(shown, decode=decode)
    return sound, [*listing.problems, *problems]


def image_size(annotation: Annotation) -> tuple[int, int]:
    """(height, width) of a sound annotation's image."""
    return annotation.size or images.image_size(annotation.image)


def picture_file(values: flags.FlagValues, name: str) -> pathlib.Path:
    """Where a picture of the split goes; makes the folder.

    Args:
      values: the flags.
      name: of what it shows.
    """
    folder = pathlib.Path(values.out).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}_{file_name(values.split)}.png"


def save_picture(figure: Any, file: pathlib.Path) -> None:
    """Writes a figure of matplotlib, and tells where it is."""
    with replacing(file, "wb") as stream:
        figure.savefig(stream, format="png", dpi=120)
    say(f"picture: {file}")
