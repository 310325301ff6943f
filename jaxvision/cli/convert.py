"""Converts the weights of a network between torch's layout, Darknet's files and checkpoints.

  jaxvision convert --weights=resnet50:IMAGENET1K_V2 resnet50.safetensors         published ones
  jaxvision convert --model=resnet50 --weights=resnet50.safetensors weights       a folder
  jaxvision convert --model=resnet50 --weights=hub:timm/resnet50.tv_in1k weights  from the hub
  jaxvision convert --model=resnet50 --weights=weights resnet50.pth               and back
  jaxvision convert --model=resnet50 --weights=runs/mine resnet50.npz             of a run
  jaxvision convert --model=yolov4 --cfg=yolov4.cfg --weights=yolov4.weights yolov4.safetensors
  jaxvision convert --cfg=yolov4.cfg --weights=runs/mine mine.weights             of Darknet

The argument is what to write. A name that ends in .safetensors, .npz, .pth, .pt, .th or .bin is a
file in torch's layout, with torchvision's keys; one that ends in .weights is a file of Darknet, for
the network that --cfg describes; any other is a folder, which `jaxvision.load_weights`,
`config.init_from` and --weights read. Writing files of torch (.pth and others) needs torch.

With --cfg alone the network is that of the description; with --model too, it is the library's, with
the same layers in the same order. If the weights are for other classes than those of the
description, the one for theirs is written beside a .weights file, with the suffix .cfg.

The arrays of the weights and those of the network must match one to one; those that do not are
listed. --prefix and --key-map rename the keys of third parties. Fields of the model that differ
from its defaults are given as --config.model.KEY; the number of classes is that of the weights.
Only the weights of a run are read, and none of its code runs. The last line on stdout is the
result, as JSON.
"""

import json
import pathlib
from typing import Any

import jax
import numpy as np
from absl import flags
from flax import linen as nn

from jaxvision.cli import network
from jaxvision.core import InputError
from jaxvision.core.files import replacing
from jaxvision.engine import log
from jaxvision.interop import (
    SUFFIXES,
    DarknetNetwork,
    from_module,
    read_cfg,
    save_variables,
    to_state_dict,
    variable_shapes,
    write_state_dict,
    write_weights,
)


def main(argv: list[str]) -> None:
    """The command; its result goes to stdout."""
    values = flags.FlagValues()
    given = network.parse(values, argv, __doc__, runs=False)
    if len(given) != 1:
        raise InputError(
            "give one file or folder to write, and the network by --model or --cfg and --weights "
            "(see --help)"
        )
    out = pathlib.Path(given[0]).expanduser()
    model, variables = network.open_weights(values)
    if out.suffix == ".weights":
        _write_darknet(out, model, variables, values)
    elif out.suffix in SUFFIXES:
        write_state_dict(out, to_state_dict(variables, model=model))
    else:
        save_variables(out, variables)
    arrays = jax.tree.leaves(variables)
    result = {
        "model": values.config.model.name,
        "arrays": len(arrays),
        "elements": sum(x.size for x in arrays),
        "out": given[0],
    }
    print(json.dumps(result), flush=True)


def _write_darknet(
    out: pathlib.Path, model: nn.Module, variables: dict[str, Any], values: flags.FlagValues
) -> None:
    """Writes a .weights file, and beside it the description if it is not that of --cfg."""
    file = values.config.model.get("cfg") or values.config.init_cfg
    if not file:
        raise InputError(f"{out.name} is a file of Darknet: give the description by --cfg=FILE")
    given = read_cfg(pathlib.Path(file).expanduser())
    description = given
    if isinstance(model, DarknetNetwork):
        description = model.description
    else:
        description = given.with_classes(model.num_classes) if given.heads() else given
        images = jax.ShapeDtypeStruct((1, *description.image), np.float32)
        variables = from_module(variables, variable_shapes(DarknetNetwork(description), images))
    write_weights(out, description, variables)
    if description.text != given.text:
        with replacing(out.with_suffix(".cfg"), "w") as written:
            written.write(description.text + "\n")
        log(f"the description for the classes of the weights is {out.with_suffix('.cfg')}")
