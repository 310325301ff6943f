"""Lists the networks with their parameters, multiply-adds and maps.

  jaxvision models                  all of them
  jaxvision models 'resnet*' unet   some
  jaxvision models resnet50         one, layer by layer
  jaxvision models --json > FILE    a list of objects, for programs

Multiply-adds are those of convolutions and matrix products, for one image of the published size.
c1 to c5 are the maps that a detector or a U-Net can take: their channels, and their stride in
pixels of the image. Every network is traced for this, but none is run.
"""

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
from jaxvision.models import MODELS, create_model, input_size, summarize

_LEVELS = ("c1", "c2", "c3", "c4", "c5")
_WIDTH = 140  # characters, of the table of layers


def main(argv: list[str]) -> None:
    """The command; the table goes to stdout."""
    values = flags.FlagValues()
    flags.DEFINE_boolean("json", False, "a list of objects instead of a table", flag_values=values)
    given = arguments.parse_with_rest(values, argv, __doc__)
    names = _chosen(given)
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


def _layers(name: str) -> str:
    """The layers of a network, and what goes in and out of each."""
    images = jnp.zeros((1, *input_size(name)))
    log(f"{name}, for one image of {images.shape[1]}x{images.shape[2]}x{images.shape[3]}:")
    console = {"width": _WIDTH, "force_terminal": False}
    return nn.tabulate(create_model(name), jax.random.key(0), console_kwargs=console)(
        images, train=False
    )
