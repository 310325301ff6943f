"""Writes the images of class folders to a cache, from which training reads them faster.

  jaxvision cache --data=imagenet --splits=train,val --shorter_side=256 --out=imagenet256
  jaxvision train --config=imagenet_resnet50 --config.data.source=cache \\
      --config.data.dir=imagenet256

DIR has a folder for each split, and in it one for each class, as for config.data.source=folder. The
command writes OUT/SPLIT for each split, with the images decoded and, with --shorter_side, resized.
Pixels of an image of 341 x 256 take 262 kB; with --jpeg_quality=95 images are stored as JPEGs
instead, which take about a quarter of that and have to be decoded again.

Without --shorter_side and --jpeg_quality, training and evaluation from the cache have the same bits
as from the folders. With --shorter_side=256 alone this still holds for evaluation with
config.data.shorter_side=256, but random crops are taken out of the smaller image.

A split appears in OUT when it is complete. An interrupted command goes on where it was if it is run
again; images that changed in between are not read again. The last line on stdout is the result, as
JSON.
"""

import functools
import json
import os
import pathlib

from absl import flags

from jaxvision.cli import arguments
from jaxvision.cli.options import flag_errors
from jaxvision.core import InputError
from jaxvision.core.memory import in_gigabytes
from jaxvision.data import ImageFolder
from jaxvision.data.caching import write_image_cache
from jaxvision.engine import log, progress_bar


def main(argv: list[str]) -> None:
    """The command; its result goes to stdout, everything else to stderr."""
    values = _flags()
    arguments.parse(values, argv, __doc__)
    for name, what in (("data", "the folder of the images"), ("out", "the folder of the cache")):
        if not values[name].value:
            raise InputError(f"no --{name}: give {what}")
    data, out = (pathlib.Path(path).expanduser() for path in (values.data, values.out))
    sources: dict[str, ImageFolder] = {}
    for split in values.splits:
        first = next(iter(sources.values()), None)
        sources[split] = ImageFolder(data / split, class_names=first and first.class_names)
    result = {}
    for split, source in sources.items():
        with flag_errors(path="out"):
            size = write_image_cache(
                source,
                out / split,
                shorter_side=values.shorter_side,
                jpeg_quality=values.jpeg_quality,
                threads=values.threads,
                progress=functools.partial(progress_bar, label=f"caching {split}", visible=True),
            )
        log(f"{split}: {len(source)} images, {in_gigabytes(size)}")
        result[split] = {"images": len(source), "bytes": size}
    print(json.dumps({"out": str(out), "splits": result}), flush=True)


def _flags() -> flags.FlagValues:
    values = flags.FlagValues()
    flags.DEFINE_string("data", None, "folder of the splits", flag_values=values)
    flags.DEFINE_string("out", None, "folder of the cache", flag_values=values)
    flags.DEFINE_list("splits", ["train", "test"], "parts of the data", flag_values=values)
    flags.DEFINE_integer(
        "shorter_side",
        None,
        "pixels to which the shorter side of larger images is resized; left out: none is resized",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "jpeg_quality",
        None,
        "store JPEGs of this quality, 1 to 100; left out: store pixels",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "threads", os.cpu_count() or 1, "that read and resize images", flag_values=values
    )
    return values
