"""Converts the weights of a network from torch's layout to an Orbax checkpoint, or back.

  jaxvision convert resnet50 resnet50.safetensors weights            writes the folder `weights`
  jaxvision convert resnet50 hub:timm/resnet50.tv_in1k weights       from the Hugging Face hub
  jaxvision convert resnet50 --to-torch weights resnet50.pth         and back
  jaxvision convert resnet50 --to-torch runs/mine resnet50.npz       the best weights of a run

Files in torch's layout end in .safetensors or .npz; those that end in .pth, .pt or .bin need torch.
The arrays of the file and those of the network must match one to one; those that do not are listed.
`jaxvision.load_weights` and `config.init_from` read the folder that this command writes. Only the
weights of a run are read, and none of its code runs. The last line on stdout is the result, as
JSON.
"""

import json
import pathlib
import re
from collections.abc import Mapping

import jax
import numpy as np
from absl import flags

from jaxvision.cli import arguments
from jaxvision.core import InputError
from jaxvision.engine import restore_weights
from jaxvision.interop import (
    download_weights,
    is_variables,
    load_weights,
    save_variables,
    to_state_dict,
    write_state_dict,
)
from jaxvision.models import create_model, input_size

_HUB = "hub:"


def main(argv: list[str]) -> None:
    """The command; its result goes to stdout."""
    values = flags.FlagValues()
    flags.DEFINE_boolean(
        "to_torch", False, "from a checkpoint to a file in torch's layout", flag_values=values
    )
    flags.DEFINE_integer(
        "num_classes", None, "of the weights; the network's own if left out", flag_values=values
    )
    flags.DEFINE_string(
        "prefix", "", "taken off the file's keys, such as module.", flag_values=values
    )
    given = arguments.parse_with_rest(values, argv, __doc__)
    if len(given) != 3:
        raise InputError("give a network, what to convert and where to write it (see --help)")
    name, origin, out = given
    fields = {} if values.num_classes is None else {"num_classes": values.num_classes}
    source = _checkpoint(pathlib.Path(origin).expanduser()) if values.to_torch else _file(origin)
    model = create_model(name, **fields)
    try:
        variables = load_weights(model, source, prefix=values.prefix, input_size=input_size(name))
    except InputError as error:
        message = re.sub(r"give prefix='(.*)'$", r"give --prefix=\1", str(error))
        raise InputError(message) from error
    if values.to_torch:
        state_dict = to_state_dict(variables, model=model)
        write_state_dict(pathlib.Path(out).expanduser(), state_dict)
    else:
        save_variables(pathlib.Path(out).expanduser(), variables)
    arrays = jax.tree.leaves(variables)
    result = {"model": name, "arrays": len(arrays), "elements": sum(x.size for x in arrays)}
    print(json.dumps({**result, "out": out}), flush=True)


def _file(origin: str) -> pathlib.Path:
    if origin.startswith(_HUB):
        return download_weights(origin.removeprefix(_HUB))
    return pathlib.Path(origin).expanduser()


def _checkpoint(folder: pathlib.Path) -> pathlib.Path | Mapping[str, np.ndarray]:
    """What `load_weights` takes: the folder, or of a run the best weights."""
    if is_variables(folder):
        return folder
    return to_state_dict(restore_weights(folder).variables)
