"""Converts the weights of a network from torch's layout to an Orbax checkpoint, or back.

  jaxvision convert --model=resnet50 --weights=resnet50.safetensors weights       a folder
  jaxvision convert --model=resnet50 --weights=hub:timm/resnet50.tv_in1k weights  from the hub
  jaxvision convert --model=resnet50 --weights=weights resnet50.pth               and back
  jaxvision convert --model=resnet50 --weights=runs/mine resnet50.npz             of a run

The argument is what to write. A name that ends in .safetensors, .npz, .pth, .pt, .th or .bin is a
file in torch's layout, with torchvision's keys; any other is a folder, which
`jaxvision.load_weights`, `config.init_from` and --weights read. Files of torch (.pth and others)
need torch.

The arrays of the weights and those of the network must match one to one; those that do not are
listed. --prefix and --key-map rename the keys of third parties. Fields of the model that differ
from its defaults are given as --config.model.KEY; the number of classes is that of the weights.
Only the weights of a run are read, and none of its code runs. The last line on stdout is the
result, as JSON.
"""

import json
import pathlib

import jax
from absl import flags

from jaxvision.cli import network
from jaxvision.core import InputError
from jaxvision.interop import SUFFIXES, save_variables, to_state_dict, write_state_dict


def main(argv: list[str]) -> None:
    """The command; its result goes to stdout."""
    values = flags.FlagValues()
    given = network.parse(values, argv, __doc__, runs=False)
    if len(given) != 1:
        raise InputError(
            "give one file or folder to write, and the network by --model and --weights "
            "(see --help)"
        )
    out = pathlib.Path(given[0]).expanduser()
    model, variables = network.open_weights(values)
    if out.suffix in SUFFIXES:
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
