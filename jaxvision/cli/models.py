"""Lists the networks with their parameters, multiply-adds and maps.

  jaxvision models                  all of them
  jaxvision models 'resnet*' unet   some
  jaxvision models resnet50         one, layer by layer
  jaxvision models --json > FILE    a list of objects, for programs
  jaxvision models --weights        published weights by their names; patterns and --json as above

Multiply-adds are those of convolutions and matrix products, for one image of the published size.
c1 to c5 are the maps that a detector or a U-Net can take: their channels, and their stride in
pixels of the image. Every network is traced for this, but none is run.

Weights are torchvision's, with the metrics that it has published, in percent: acc@1 and acc@5 of
classifiers on ImageNet's validation images, the AP of boxes, masks and keypoints of detectors on
COCO's, and the mean IoU and the accuracy of pixels of segmenters there, with VOC's classes. A * is
after the network's DEFAULT. Parameters are those of the published network. `--json` has more, such
as the license, where these weights have one of their own.
"""

import dataclasses
import fnmatch
import json
from collections.abc import Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from absl import flags
from tqdm import tqdm

from jaxvision.cli import arguments
from jaxvision.core import InputError, close_names
from jaxvision.engine import log
from jaxvision.interop import PublishedWeights, published_weights
from jaxvision.models import MODELS, create_model, input_size, summarize

_LEVELS = ("c1", "c2", "c3", "c4", "c5")
_WIDTH = 140  # characters, of the table of layers


def main(argv: list[str]) -> None:
    """The command; the table goes to stdout."""
    values = flags.FlagValues()
    flags.DEFINE_boolean("json", False, "a list of objects instead of a table", flag_values=values)
    flags.DEFINE_boolean("weights", False, "list published weights", flag_values=values)
    given = arguments.parse_with_rest(values, argv, __doc__)
    names = _chosen(given)
    if values.weights:
        _print_weights([row for row in published_weights() if row.model in names], values.json)
        return
    if given == names and len(names) == 1 and not values.json:
        print(_layers(names[0]))
        return
    described = _described(tqdm(names, desc="tracing", leave=False, disable=None))
    if values.json:
        print(json.dumps(list(described), indent=1))
        return
    print(_row("network", "parameters", "G multiply-adds", "input", _LEVELS))
    for row in described:
        tqdm.write(_row_of(row))


def _chosen(patterns: Sequence[str]) -> list[str]:
    """The names that a pattern fits, in the table's order."""
    fitting = [fnmatch.filter(MODELS, pattern) for pattern in patterns or ["*"]]
    for pattern, names in zip(patterns, fitting, strict=False):
        if not names:
            raise InputError(f"no network is called {pattern!r}: {close_names(pattern, MODELS)}")
    return [name for name in MODELS if any(name in names for names in fitting)]


def _described(names: Sequence[str]) -> Iterator[dict[str, Any]]:
    for name in names:
        size = input_size(name)
        summary = summarize(create_model(name), size)
        levels = {level: summary.maps[level] for level in _LEVELS if level in summary.maps}
        yield {
            "name": name,
            "params": summary.params,
            "macs": summary.macs,
            "input_size": list(size),
            "maps": {
                level: {"channels": shape[-1], "reduction": round(size[0] / shape[1])}
                for level, shape in levels.items()
            },
        }


def _row(name: str, params: str, macs: str, size: str, maps: Sequence[str]) -> str:
    cells = "".join(f"{cell:>10}" for cell in maps)
    return f"{name:<22}{params:>14}{macs:>17}{size:>12}{cells}".rstrip()


def _row_of(row: dict[str, Any]) -> str:
    height, width, channels = row["input_size"]
    maps = [row["maps"].get(level) for level in _LEVELS]
    return _row(
        row["name"],
        f"{row['params']:,}",
        f"{row['macs'] / 1e9:.3f}",
        f"{height}x{width}x{channels}",
        [f"{x['channels']} /{x['reduction']}" if x else "" for x in maps],
    )


_METRICS = {
    "classification": ("acc@1", "acc@5"),
    "detection": ("box_map", "mask_map", "kp_map"),
    "segmentation": ("miou", "pixel_acc"),
}


def _print_weights(rows: Sequence[PublishedWeights], as_json: bool) -> None:
    """A table for each task, or all as JSON."""
    if not rows:
        raise InputError("no weights of these networks are published by name")
    if as_json:
        print(json.dumps([dataclasses.asdict(row) for row in rows], indent=1))
        return
    width = 1 + max(len(row.full_name) for row in rows)
    tables = []
    for task, metrics in _METRICS.items():
        titles = "".join(f"{title:>10}" for title in (*metrics, "params M", "GMACs", "MiB"))
        lines = [f"{task:<{width}}{titles}  recipe"]
        for row in (row for row in rows if row.task == task):
            found = {key: x for metrics in row.metrics.values() for key, x in metrics.items()}
            cells = [f"{found[x]:.3f}" if x in found else "" for x in metrics]
            cells += [f"{row.params / 1e6:.1f}", f"{row.g_multiply_adds:.2f}"]
            cells += [f"{row.mebibytes:.1f}"]
            name = f"{row.full_name}{'*' * row.default}"
            numbers = "".join(f"{cell:>10}" for cell in cells)
            lines.append(f"{name:<{width}}{numbers}  {row.recipe}")
        if len(lines) > 1:
            tables.append("\n".join(lines))
    print("\n\n".join(tables))


def _layers(name: str) -> str:
    """The layers of a network, and what goes in and out of each."""
    images = jnp.zeros((1, *input_size(name)))
    log(f"{name}, for one image of {images.shape[1]}x{images.shape[2]}x{images.shape[3]}:")
    console = {"width": _WIDTH, "force_terminal": False}
    return nn.tabulate(create_model(name), jax.random.key(0), console_kwargs=console)(
        images, train=False
    )
