"""Settings that have no effect, because of what else is set: an error instead of a surprise."""

import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from jaxvision.cli.config import default_config
from jaxvision.cli.kinds import KINDS
from jaxvision.cli.optimizers import OPTIMIZERS, SCHEDULES
from jaxvision.core import OptionError
from jaxvision.core.inputs import RESIZE

EMBEDDED = ("digits", "scenes", "single_scenes")
"""Sources that come with the library. They are prepared in the folder of TFDS."""

_OF_FOLDERS = ("folder", "cache", "npz", "voc", "coco", "yolo", "instances", "tfds")
SOURCES = {
    "dir": (*_OF_FOLDERS, "idx", *EMBEDDED),
    "name": ("tfds",),
    "train_split": _OF_FOLDERS,
    "test_split": _OF_FOLDERS,
    "mask": ("tfds",),
    "first_pixel": ("voc",),
    "drop_empty": ("voc", "coco", "yolo", "instances"),
    "drop_bad": ("voc", "coco", "yolo", "instances", "tfds"),
    "masks": ("voc", "coco", "yolo", "instances", "scenes", "single_scenes"),
    "keypoints": ("voc", "coco", "yolo", "instances", "scenes", "single_scenes"),
    "labels_only": ("scenes", "single_scenes"),
    "binary": ("folder", "voc", "tfds"),
}
"""Key of the data that only some sources read -> those sources."""

_CHOICES = {
    **{f"data.{key}": ("data.source", sources) for key, sources in SOURCES.items()},
    "data.difficult": ("data.source", ("voc", "tfds")),  # whose annotations may say so
    "data.image_size": ("data.resize", (None, "stretch", "letterbox", "crop", "fit")),
    "data.shorter_side": ("data.resize", ("shorter_side", "crop")),
    "data.longer_side": ("data.resize", ("shorter_side",)),
    "data.multiple_of": ("data.resize", ("shorter_side", "fit")),
    "data.shapes": ("data.resize", ("shorter_side", "fit")),
    "optimizer.momentum": ("optimizer.name", ("sgd",)),
    "optimizer.nesterov": ("optimizer.name", ("sgd",)),
    "optimizer.b1": ("optimizer.name", ("adam", "adamw")),
    "optimizer.b2": ("optimizer.name", ("adam", "adamw")),
    "optimizer.schedule.warmup": (
        "optimizer.schedule.name",
        ("step", "cosine", "one_cycle", "polynomial"),
    ),
    "optimizer.schedule.milestones": ("optimizer.schedule.name", ("step",)),
    "optimizer.schedule.factor": ("optimizer.schedule.name", ("step", "plateau")),
    "optimizer.schedule.power": ("optimizer.schedule.name", ("polynomial",)),
    "optimizer.schedule.window": ("optimizer.schedule.name", ("plateau",)),
    "optimizer.schedule.patience": ("optimizer.schedule.name", ("plateau",)),
    "decode.radius": ("decode.method", ("soft_argmax",)),
    "decode.temperature": ("decode.method", ("soft_argmax",)),
}
"""Key -> the key that chooses what uses it, and the choices that do."""

_MOVES = tuple(
    f"augment.{name}"
    for name in ("mosaic", "jitter", "scale_jitter", "scale", "ratio", "translate")
)
_SWITCHES = {
    "reinit": ("init_from",),
    "init_cfg": ("init_from",),
    "init_prefix": ("init_from",),
    "init_key_map": ("init_from",),
    "head_warmup.only": ("head_warmup.steps",),
    "head_warmup.learning_rate": ("head_warmup.steps",),
    "data.method": ("data.resize",),
    "data.mask_size": ("data.masks",),
    "data.size_every": ("data.sizes",),
    "augment.crop_on_device": ("augment.crop_scale",),
    "tree.prune": ("tree.file",),
    "augment.rand_augment_magnitude": ("augment.rand_augment",),
    "augment.mixup_alpha": ("augment.mixup",),
    "augment.cutmix_alpha": ("augment.cutmix",),
    "augment.swap": ("augment.flip", "augment.preset"),
    "augment.least_visible": _MOVES,
    "augment.least_side": _MOVES,
}
"""Key -> the keys of which one must be set for it to have an effect."""


class _Unused(NamedTuple):
    """A key that is set in vain, and what to say about it."""

    key: str
    reason: str


def check_used(config: ConfigDict, file: ConfigDict) -> None:
    """Raises OptionError if a key is set that has no effect.

    A value of the config's file that another flag made useless, such as the momentum where a flag
    chooses Adam, is no error: nobody asked for it here.

    Args:
      config: with the values of the flags.
      file: as the file of the config gives it.
    """
    before = {unused.key for unused in _unused(file)} if file.task == config.task else set()
    for key, reason in _unused(config):
        if key in before or _value(config, key) != _value(file, key):
            raise OptionError(f"config.{key}", f"config.{key} is set, but {reason}")


def _unused(config: ConfigDict) -> Iterator[_Unused]:
    default = default_config(config.task)
    known = {
        "data.resize": (None, *RESIZE),
        "data.source": KINDS[config.task].sources,
        "optimizer.name": OPTIMIZERS,
        "optimizer.schedule.name": SCHEDULES,
        "decode.method": ("soft_argmax", "argmax"),
    }
    for key in (*_CHOICES, *_SWITCHES):
        if _value(config, key) == _value(default, key):
            continue
        if key in _SWITCHES:
            switches = [x for x in _SWITCHES[key] if _has(config, x)]
            if not any(_value(config, x) not in ("", _value(default, x)) for x in switches):
                names = " or ".join(f"config.{x}" for x in switches)
                yield _Unused(key, f"has no effect without {names}: set that too, or leave it out")
            continue
        chooses, choices = _CHOICES[key]
        chosen = _value(config, chooses)
        if chosen not in choices and chosen in known[chooses]:
            possible = [x for x in choices if x in known[chooses] and x is not None]
            other = f", or set config.{chooses} to {' or '.join(possible)}" if possible else ""
            what = f"the source {chosen}" if chooses == "data.source" else chosen
            yield _Unused(key, f"{what} does not use it: leave it out{other}")


def _has(config: ConfigDict, key: str) -> bool:
    group, _, name = key.rpartition(".")
    return (not group or _has(config, group)) and name in _value(config, group)


def _value(config: ConfigDict, key: str) -> Any:
    """The value of a key; None where the config has no such key, and lists as tuples."""
    here: Any = config
    for part in filter(None, key.split(".")):
        if part not in here:
            return None
        here = here[part]
    return tuple(here) if isinstance(here, list) else here


def check_folder_of_embedded(source: str, folder: str | None) -> None:
    """Raises OptionError if embedded data would be prepared in a folder of other data.

    Args:
      source: name of the data source.
      folder: that is given for the data.
    """
    if source not in EMBEDDED or not folder:
        return
    path = pathlib.Path(folder).expanduser()
    advice = f"{source} is embedded, and only prepared there: leave dir out, or set another source"
    if not path.exists():
        raise OptionError("dir", f"dir is {folder}, which is not there: the source {advice}")
    if path.is_dir() and any(path.iterdir()) and not _is_of_tfds(path):
        raise OptionError("dir", f"dir is {folder}, which has other data: the source {advice}")


def _is_of_tfds(path: pathlib.Path) -> bool:
    """Whether a folder has a data set of TFDS, finished or not."""
    begun = ("jaxvision_*", "downloads", "prepare.lock")
    prepared = ("*/*/dataset_info.json", "*/*/*/dataset_info.json")
    return any(any(path.glob(pattern)) for pattern in (*begun, *prepared))
