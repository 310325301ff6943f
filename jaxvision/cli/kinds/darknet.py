"""The network of a Darknet description, as `config.model` names it."""

import pathlib

from jaxvision.core import OptionError
from jaxvision.interop import DarknetNetwork, Description, parse_cfg, read_cfg

DARKNET = "darknet"
"""The name of the network in a config."""


def darknet_network(
    *,
    cfg: str = "",
    dialect: str | None = None,
    num_classes: int | None = None,
    remat: bool = False,
    dtype: str | None = None,
) -> DarknetNetwork:
    """The network of a description.

    Args:
      cfg: path of the .cfg file, or its text.
      dialect: "pjreddie" or "alexeyab", the program that the file is for; None: found by its
        options.
      num_classes: for which the last layers are changed, except where the classes are the nodes of
        a tree; None: as described.
      remat: whether convolutions are computed a second time in the backward pass.
      dtype: of the computation, "float32" or "bfloat16"; None: "float32".
    Raises:
      OptionError: cfg is empty.
      InputError: the file cannot be read, or what it has is not supported.
    """
    if not cfg:
        raise OptionError("cfg", "cfg is not set: give a .cfg file")
    description = description_of(cfg, dialect)
    in_tree = any(head.tree for head in description.heads())
    if num_classes is not None and not in_tree:
        description = description.with_classes(num_classes)
    return DarknetNetwork(description, remat=remat, dtype=dtype)


def description_of(cfg: str, dialect: str | None = None) -> Description:
    """The description in a .cfg file, or in its text, as a run keeps it.

    Raises:
      InputError: as for `jaxvision.interop.read_cfg`.
    """
    if "\n" in cfg:
        return parse_cfg(cfg, "the description in config.model.cfg", dialect=dialect or None)
    return read_cfg(pathlib.Path(cfg).expanduser(), dialect=dialect or None)
