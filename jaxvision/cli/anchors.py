"""Finds anchor boxes for a detector, by k-means on the boxes of the data.

  jaxvision anchors --data=DIR --k=9 --image_size=416
  jaxvision anchors --config=scenes_yolov2_tiny --k=3

Boxes are measured in pixels of the network's input, without augmentation. Boxes that training
leaves out are left out here too: crowds, and objects that are marked as difficult. With
--config=NAME the boxes are those of the config's training data, and the config's keys are flags,
such as --config.data.dir.

The command prints a table of the average IoU of a box with its best anchor, for up to --max_k
anchors. The picture anchors_SPLIT.png shows this curve, and the anchors among the boxes. Then it
prints the option to give to `jaxvision train`. The last line on stdout is the result, as JSON.
"""

import json
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax import Array, lax

from jaxvision.cli import arguments, setup
from jaxvision.cli.folder import (
    FOLDER_FLAGS,
    check_config,
    checked,
    folder_flags,
    image_size,
    picture_file,
    read_listing,
)
from jaxvision.cli.kinds.detection_data import DetectionData
from jaxvision.cli.options import option_paths, read_group
from jaxvision.cli.report import save_picture
from jaxvision.core import InputError, Inputs, check_choice
from jaxvision.engine import log, progress_bar
from jaxvision.ops import average_iou, kmeans_anchors, to_input
from jaxvision.ops.placement import placement_of
from jaxvision.tasks.detection import trained_on

_WHOLE = ("letterbox", "stretch", "shorter_side", "fit")  # which show the objects whole
_STARTS = 5  # of k-means, of which the best counts
_DATA_FLAGS = (*FOLDER_FLAGS, "image_size", "resize", "drop_bad")


def main(argv: list[str]) -> None:
    """The command; its result goes to stdout, everything else to stderr."""
    name, rest = arguments.take_config(argv, "")
    values = _flags()
    if name:
        arguments.define_config(values, name, rest)
    arguments.parse(values, rest, __doc__)
    size, shapes = _of_config(values, name) if name else _of_folder(values)
    if not len(shapes):
        raise InputError("there are no boxes to find anchors for: check the data and its split")
    file = picture_file(values, "anchors")
    log(f"{len(shapes)} boxes in an input of {size} x {size} pixels")

    key, found = jax.random.key(values.seed), {}
    ks = sorted({*range(1, values.max_k + 1), values.k})
    for k in progress_bar(ks, "clustering", visible=True):
        anchors, iou = _cluster(jax.random.fold_in(key, k), jnp.asarray(shapes, jnp.float32), k=k)
        found[k] = np.asarray(anchors, np.float64).round(2).tolist(), float(iou)
    anchors, iou = found[values.k]
    ious = {k: iou for k, (_, iou) in found.items()}
    log("\n".join([" k  average IoU", *(f"{k:>2}  {iou:.4f}" for k, iou in ious.items())]))
    log(f'--config.anchors="{tuple(map(tuple, anchors))}"')
    save_picture(_draw(shapes, anchors, ious, size), file)
    result = {
        "boxes": len(shapes),
        "image_size": size,
        "k": values.k,
        "anchors": anchors,
        "average_iou": iou,
        "average_iou_by_k": ious,
    }
    print(json.dumps(result), flush=True)


def _flags() -> flags.FlagValues:
    values = folder_flags()
    for name, default, meaning in (
        ("k", 5, "how many anchors"),
        ("max_k", 15, "the most anchors in the table and the picture"),
        ("image_size", 416, "height and width that the network gets"),
    ):
        flags.DEFINE_integer(name, default, meaning, lower_bound=1, flag_values=values)
    flags.DEFINE_enum(
        "resize",
        "letterbox",
        ["letterbox", "stretch", "fit"],
        "letterbox and fit keep an image's aspect ratio, stretch does not",
        flag_values=values,
    )
    flags.DEFINE_boolean(
        "drop_bad", False, "leave out records with bad boxes or images", flag_values=values
    )
    flags.DEFINE_integer(
        "seed", 0, "of the shapes that k-means starts from", lower_bound=0, flag_values=values
    )
    return values


def _of_folder(values: flags.FlagValues) -> tuple[int, np.ndarray]:
    """The input's size, and the shapes of a folder's boxes there: f64[N, 2], (width, height)."""
    sound, problems = checked(read_listing(values, values.split), decode=False)
    if problems and not values.drop_bad:
        raise InputError(
            f"{values.data} {values.split} has problems ({len(problems)} in all), such as "
            f"{problems[0]}: mend what `jaxvision check-data` lists, or leave those records out "
            "with --drop_bad"
        )
    if problems:
        log(
            f"some records are left out for {len(problems)} problems, which `jaxvision check-data` "
            "lists"
        )
    shapes = [
        _placed(
            x.boxes[trained_on(x.crowd, x.difficult, difficult_too=False)],
            image_size(x),
            Inputs((values.image_size,) * 2, resize=values.resize),
        )
        for x in sound
    ]
    return values.image_size, np.concatenate([np.zeros((0, 2)), *shapes])


def _of_config(values: flags.FlagValues, name: str) -> tuple[int, np.ndarray]:
    """As `_of_folder`, of the training records of a config."""
    check_config(values, name, _DATA_FLAGS)
    config = values.config
    data = config.data
    check_choice("config.data.resize", data.resize, _WHOLE)
    options = read_group(DetectionData, data, "config.data")
    with option_paths("config.data", size="image_size"):
        inputs = options.inputs()
    records = setup.open_data(config).open("train")
    shapes = []
    for index in progress_bar(range(len(records)), "reading records", visible=True):
        record = records.target(index)
        trained = trained_on(record["crowd"], record["difficult"], difficult_too=data.difficult)
        shapes.append(_placed(record["boxes"][trained], record["size"], inputs))
    return max(inputs.shape[:2]), np.concatenate(shapes)


def _placed(boxes: np.ndarray, original: tuple[int, int], inputs: Inputs) -> np.ndarray:
    """Shapes of an image's boxes in the network's input: f64[G, 2], (width, height)."""
    placed = to_input(boxes, placement_of(original, inputs))
    return placed[:, 2:] - placed[:, :2]


@partial(jax.jit, static_argnames="k")
def _cluster(key: Array, shapes: Array, *, k: int) -> tuple[Array, Array]:
    """The best anchors of several starts, f32[k, 2], and their average IoU."""
    # One after the other, for the sake of memory.
    anchors = lax.map(lambda key: kmeans_anchors(key, shapes, k=k), jax.random.split(key, _STARTS))
    ious = lax.map(partial(average_iou, shapes), anchors)
    best = ious.argmax()
    return anchors[best], ious[best]


def _draw(shapes: np.ndarray, anchors: list[list[float]], ious: dict[int, float], size: int) -> Any:
    """The figure: the average IoU over k, and the anchors among the boxes."""
    # Late, because it takes a second; and without a display.
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(12, 5.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(*zip(*ious.items(), strict=True), "o-", color="C0", ms=4)
    k = len(anchors)
    left.plot(k, ious[k], "*", color="C3", ms=14, label=f"k = {k}: {ious[k]:.4f}")
    left.set(title="average IoU of a box with its best anchor", xlabel="anchors k")
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.legend(loc="lower right")
    right.scatter(*shapes.T, s=6, color="0.3", alpha=0.2, linewidths=0)
    for (width, height), color in zip(
        anchors, colormaps["turbo"](np.linspace(0, 1, k)), strict=True
    ):
        outline = {"fill": False, "color": color, "linewidth": 1.5}
        label = f"{width:.0f} x {height:.0f}"
        right.add_patch(Rectangle((0, 0), width, height, label=label, **outline))
    right.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    right.set(
        title=f"{len(shapes)} boxes and {k} anchors in an input of {size} x {size}",
        xlabel="width, pixels",
        ylabel="height, pixels",
        xlim=(0, None),
        ylim=(0, None),
        aspect="equal",
    )
    for axes in (left, right):
        axes.grid(alpha=0.3)
    return figure
