"""Checks a folder of images with boxes before training, and shows what is in it.

  jaxvision check-data --data=DIR
  jaxvision check-data --data=VOCdevkit --split=VOC2007/trainval+VOC2012/trainval --out=pictures

The command lists every bad record with its file and the problem: annotations that cannot be read,
boxes outside of their image, images that are missing or damaged. The statistics, and the picture
data_SPLIT.png with the sizes, aspect ratios and classes of the boxes, cover the records without
problems. Training with --config.data.drop_bad uses the same records. The last line on stdout is
the result, as JSON. The exit code is 1 if there are problems.
"""

import json
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from jaxvision.cli import arguments
from jaxvision.cli.folder import (
    checked,
    folder_flags,
    image_size,
    picture_file,
    read_listing,
)
from jaxvision.cli.report import save_picture
from jaxvision.data import Annotation
from jaxvision.engine import log
from jaxvision.metrics.coco import AREAS

_SHOWN_SIZES = 5  # of images, in the summary
_SHOWN_CLASSES = 40  # in the picture
_BINS = 8  # of a histogram of sizes, in an octave
_MOST_BINS = 60  # of that of objects in an image


def main(argv: list[str]) -> int:
    """The command; its result goes to stdout, everything else to stderr."""
    values = folder_flags()
    flags.DEFINE_boolean(
        "headers_only",
        False,
        "read just the headers of the images: fast, but overlooks damage further on",
        flag_values=values,
    )
    arguments.parse(values, argv, __doc__)
    listing = read_listing(values, values.split)
    file = picture_file(values, "data")
    sound, problems = checked(listing, decode=not values.headers_only)
    for problem in problems:
        log(problem)
    objects = _objects(sound)
    result = {"problems": len(problems), **_figures(sound, objects, listing.class_names)}
    log(_summary(result))
    if result["objects"]:
        title = f"{values.data} {values.split}: {len(sound)} images, {result['objects']} objects"
        save_picture(_draw(objects, result["classes"], title), file)
    print(json.dumps(result), flush=True)
    return 1 if problems else 0


class _Objects(NamedTuple):
    """The G objects of M images.

    Attributes:
      counts: i64[M], in each image.
      sides: f64[G, 2], width and height of each box, pixels of the image.
      labels: i64[G].
      crowd: bool[G].
      difficult: bool[G].
    """

    counts: np.ndarray
    sides: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    difficult: np.ndarray


def _objects(annotations: Sequence[Annotation]) -> _Objects:
    def joined(name: str, empty: np.ndarray) -> np.ndarray:
        return np.concatenate([empty, *(getattr(x, name) for x in annotations)])

    boxes = joined("boxes", np.zeros((0, 4)))
    return _Objects(
        counts=np.array([len(x.labels) for x in annotations], np.int64),
        sides=boxes[:, 2:] - boxes[:, :2],
        labels=joined("labels", np.zeros(0, np.int64)),
        crowd=joined("crowd", np.zeros(0, bool)),
        difficult=joined("difficult", np.zeros(0, bool)),
    )


def _figures(
    annotations: Sequence[Annotation], objects: _Objects, class_names: Sequence[str]
) -> dict[str, Any]:
    """The result, but for the problems."""
    sizes = Counter("{1} x {0}".format(*image_size(x)) for x in annotations)
    area = objects.sides.prod(axis=1)
    small, medium = AREAS["medium"]
    of_class = np.bincount(objects.labels, minlength=len(class_names)).tolist()
    return {
        "images": len(annotations),
        "empty_images": int((objects.counts == 0).sum()),
        "image_sizes": dict(sizes.most_common()),
        "objects": len(objects.labels),
        "crowd": int(objects.crowd.sum()),
        "difficult": int(objects.difficult.sum()),
        "small": int((area < small).sum()),
        "medium": int(((small <= area) & (area < medium)).sum()),
        "large": int((medium <= area).sum()),
        "most_objects": int(objects.counts.max(initial=0)),
        "classes": dict(zip(class_names, of_class, strict=True)),
    }


def _summary(result: dict[str, Any]) -> str:
    """The result for people."""
    sizes = [f"{size} ({count})" for size, count in result["image_sizes"].items()]
    if len(sizes) > _SHOWN_SIZES:
        sizes[_SHOWN_SIZES:] = [f"{len(sizes) - _SHOWN_SIZES} others"]
    width = max(map(len, ["class", *result["classes"]]))
    return "\n".join(
        [
            "problems      {problems}",
            "sound images  {images}, {empty_images} without objects",
            "image sizes   {sizes}",
            "objects       {objects}, {crowd} crowd, {difficult} difficult; {most_objects} in an "
            "image at most (if config.data.max_boxes is less, set config.data.drop_extra)",
            "box sizes     {small} small, {medium} medium, {large} large (COCO's: below 32^2, "
            "below 96^2 and from 96^2 pixels)",
            "",
            f"{'class':<{width}}  objects",
        ]
    ).format(sizes=", ".join(sizes), **result) + "".join(
        f"\n{name:<{width}}  {count:>7}" for name, count in result["classes"].items()
    )


def _draw(objects: _Objects, classes: dict[str, int], title: str) -> Any:
    """The figure: how large the boxes are, their form, how many in an image, and of which class."""
    # Late, because it takes a second; and without a display.
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    ranked = sorted(classes.items(), key=lambda item: -item[1])[:_SHOWN_CLASSES]
    names, counts = zip(*ranked, strict=True)
    figure = Figure(figsize=(14, 7.5), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplot_mosaic([["sides", "area", "classes"], ["ratio", "counts", "classes"]])

    def histogram(name: str, *values: np.ndarray, labels: Sequence[str | None] = (None,)) -> None:
        """Over whole octaves."""
        low, high = (math.floor(math.log2(f(values))) for f in (np.min, np.max))
        bins = np.exp2(np.arange(low * _BINS, (high + 1) * _BINS + 1) / _BINS)
        axes[name].set_xscale("log", base=2)
        axes[name].xaxis.set_major_formatter("{x:.3g}")
        axes[name].set(xlim=(bins[0], bins[-1]), ylabel="objects")
        for x, label in zip(values, labels, strict=True):
            axes[name].hist(x, bins, histtype="stepfilled", alpha=0.5, label=label)

    width, height = objects.sides.T
    histogram("sides", width, height, labels=("width", "height"))
    axes["sides"].set(title="width and height of the boxes", xlabel="pixels")
    histogram("area", np.sqrt(width * height))
    axes["area"].set(title="root of the area of the boxes", xlabel="pixels")
    for size, style in (("medium", ":"), ("large", "--")):
        side = math.sqrt(AREAS[size][0])
        axes["area"].axvline(side, color="C3", ls=style, label=f"{size}: from {side:g}")
    for name in ("sides", "area"):
        axes[name].legend()
    histogram("ratio", width / height)
    axes["ratio"].set(title="aspect ratio of the boxes", xlabel="width / height")
    step = objects.counts.max() // _MOST_BINS + 1
    bins = np.arange(0, objects.counts.max() + 2 * step, step) - 0.5
    axes["counts"].hist(objects.counts, bins, alpha=0.5)
    axes["counts"].set(title="objects in an image", xlabel="objects", ylabel="images")
    axes["counts"].xaxis.set_major_locator(MaxNLocator(integer=True))
    bars = axes["classes"].barh(names, counts, alpha=0.5)
    axes["classes"].bar_label(bars, padding=3)
    axes["classes"].set_ylim(max(len(names), 8) - 0.5, -0.5)
    axes["classes"].margins(x=0.15)
    most = "" if len(ranked) == len(classes) else f", the {len(ranked)} most frequent"
    axes["classes"].set(title=f"objects of {len(classes)} classes{most}", xlabel="objects")
    for part in axes.values():
        part.grid(alpha=0.3)
    return figure
