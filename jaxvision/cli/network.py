"""The flags that choose a network with its weights, which several commands share.

  --workdir=DIR                   the best checkpoint of a run, prepared and decoded as in the run
  --weights=MODEL:NAME            published weights, such as resnet50:DEFAULT, which are downloaded;
                                  `jaxvision models --weights` lists them
  --model=NAME --weights=FILE     third-party weights, with no training
  --config=NAME --weights=FILE    likewise; the config says the task, the model and the data
  --cfg=FILE --weights=FILE       a detector in Darknet's format, with its .weights
  --model=NAME --cfg=FILE --weights=FILE  a network of the library with the .weights of Darknet's
                                  network that FILE describes: the same layers in the same order

The fields of the model and how images are prepared are keys of the config: --config.model.KEY and
--config.data.KEY, with --model too. Without --config they are those that the model was published
with, as far as these are known; those of a --cfg are what it says. --resize=stretch or letterbox
says how a detector's images get the size of its input.
"""

import contextlib
import dataclasses
import os
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags
from flax import linen as nn
from ml_collections import ConfigDict

from jaxvision.cli import arguments, setup
from jaxvision.cli.cfg import config_of_cfg, set_cfg
from jaxvision.cli.code import Code
from jaxvision.cli.config import default_config, find_config, load_config
from jaxvision.cli.kinds.darknet import DARKNET, description_of
from jaxvision.cli.kinds.kind import build_model
from jaxvision.cli.options import flag_errors, option_paths, read_group
from jaxvision.cli.pretrained import (
    Weights,
    check_prefix,
    key_map_of,
    pretrained_variables,
    published_of,
    read_pretrained,
)
from jaxvision.core import InputError, Task, listed, lookup
from jaxvision.data.sources.source import lines_of
from jaxvision.engine import log
from jaxvision.interop import (
    DarknetNetwork,
    PublishedWeights,
    class_count,
    from_state_dict,
    load_weights,
    named_alike,
    variable_shapes,
)
from jaxvision.models import (
    CLASSIFIERS,
    DETECTORS,
    MODELS,
    RESTORERS,
    SEGMENTERS,
    input_figures,
    input_resizing,
    input_size,
)
from jaxvision.models.restoration.dncnn import DNCNNS
from jaxvision.models.restoration.srcnn import ESPCNS, SRCNNS
from jaxvision.tasks.detectors import SSDLITE_DECODE, darknet_classes

_KINDS = {
    **dict.fromkeys(CLASSIFIERS, "classification"),
    **dict.fromkeys(DETECTORS, "detection"),
    **dict.fromkeys(RESTORERS, "restoration"),
    **dict.fromkeys(SEGMENTERS, "segmentation"),
}
"""Network -> the task that it is for, if no config says another."""

_MEASURED = {
    **dict.fromkeys(DNCNNS, ("gaussian_noise", "dncnn", "grey")),
    **dict.fromkeys(ESPCNS, ("downscale", "srcnn", "luminance")),
    **dict.fromkeys(SRCNNS, ("downscale_upscale", "srcnn", "luminance")),
}
"""Network of restoration -> degradation, protocol and color of its paper."""


_DETECT = {"ssdlite320_mobilenet_v3_large": SSDLITE_DECODE}
_DETECTOR = {
    "fasterrcnn_mobilenet_v3_large_fpn": {"rpn_score_thresh": 0.05},
    "fasterrcnn_mobilenet_v3_large_320_fpn": {
        "rpn_score_thresh": 0.05,
        "rpn_pre_nms_top_n_test": 150,
        "rpn_post_nms_top_n_test": 150,
    },
}
"""Network -> options of decoding, where they are not the detector's defaults."""


def parse(values: flags.FlagValues, argv: list[str], usage: str, *, runs: bool = True) -> list[str]:
    """Defines the flags of the group, and parses the arguments.

    Args:
      values: the other flags of the command; also gets those of the group, and those of the config
        that --config or --model chooses.
      argv: arguments of the command, its name first.
      usage: text of --help.
      runs: whether the command takes the run of --workdir too.
    Returns:
      the arguments that are no flags.
    Raises:
      HelpAsked: for --help.
      InputError: there is no such config or model, an unknown flag, or a bad value.
    """
    for name, meaning in (
        ("workdir", "folder of a run, whose best checkpoint is used"),
        ("model", "name of a network, with its --weights; `jaxvision models` lists them"),
        ("cfg", "Darknet's description of a detector, with its --weights; with --model: of these"),
        (
            "weights",
            "MODEL:NAME of published ones, such as resnet50:DEFAULT; or a file in torch's layout, "
            "folder of `jaxvision convert` or of a run, hub:OWNER/NAME, or Darknet's .weights",
        ),
        ("prefix", "taken off the keys of --weights where they have it, such as module."),
        ("names", "file with the names of the classes, a line each"),
    ):
        if runs or name not in ("workdir", "names"):
            flags.DEFINE_string(name, None, meaning, flag_values=values)
    flags.DEFINE_list(
        "key_map",
        [],
        "rules old=new for the keys of --weights, such as down*.conv=encoder*_conv1: old is "
        "replaced by new wherever it stands between dots; * stands for any characters without a "
        "dot; old= ignores keys",
        flag_values=values,
    )
    if runs:
        arguments.define_resize(values)
    name, rest = arguments.take_config(argv, "")
    model, cfg, weights = (arguments.value_of(rest, x) for x in ("model", "cfg", "weights"))
    published = published_of(weights, model) if weights else None
    if published is not None and not name:
        model = published.model
    if name or model or cfg:
        config = load_config(find_config(name)) if name else None
        config = config or (config_of_model(model) if model else config_of_cfg(cfg))
        if published is not None and not name:
            set_published(config, published)
        if model:
            config.model.name = model
            config.init_cfg = cfg or config.init_cfg
        elif name and cfg:
            set_cfg(config, cfg)
        arguments.define_keys(values, config, rest)
    given = arguments.parse_with_rest(values, rest, usage)
    if published is not None:
        values.weights = published.full_name
    resize = values.resize if runs else None
    if "config" in values:
        arguments.set_resize(values.config, resize)
    elif resize:
        raise InputError("--resize goes with --model, --config or --cfg: a run has its own")
    return given


def config_of_model(name: str) -> ConfigDict:
    """The default config of a network's task, with the inputs that the network was published with.

    Its data are unknown: `data.source` is empty.

    Raises:
      InputError: there is no such network, or it is code of the user's own.
    """
    lookup(MODELS, name, "model")
    config = default_config(_KINDS[name])
    config.model.name = name
    height, _, channels = input_size(name)
    known: dict[str, Any] = {"source": "", "image_size": height, "channels": channels}
    known |= {"validation_fraction": 0.0}  # nothing is trained
    published = input_figures(name)
    if config.task == "classification":
        known |= {"resize": "crop", "mean": (), "std": ()}
    if published:
        known |= dict(zip(("mean", "std"), published, strict=True))
    if config.task == "restoration":
        degradation, protocol, color = _MEASURED[name]
        config.degradation.update({"name": degradation, "protocol": protocol})
        known |= {"color": color}
    known |= input_resizing(name)
    config.data.update({key: value for key, value in known.items() if key in config.data})
    if name in _DETECT:
        config.detect.update(dataclasses.asdict(_DETECT[name]))
    if name in _DETECTOR:
        config.detector.update(_DETECTOR[name])
    return config


def set_published(config: ConfigDict, published: PublishedWeights) -> None:
    """Sets a config of a network to how it was published with its weights."""
    config.model.update(published.fields)
    options = published.input_options
    if "size" in options:
        options["image_size"] = options.pop("size")[0]
    config.data.update(options)


def open_network(
    values: flags.FlagValues,
    *,
    decode: Mapping[str, Any] | None = None,
    split: str | None = None,
    partial: bool = False,
) -> setup.Opened:
    """The network that the flags choose, with its task.

    Args:
      values: the flags, parsed.
      decode: options of a detector's decoding that are changed; other tasks have none.
      split: of the data that will be read, which then name the classes; None: no data will be.
      partial: weights may lack arrays, which are NaN then, and have others.
    Raises:
      InputError: the flags do not go together; the run or the weights cannot be read; the weights
        do not fit.
    """
    _check(values)
    if values.workdir:
        workdir = pathlib.Path(values.workdir).expanduser()
        opened = setup.open_run(workdir, trust=values.trust_code, decode=decode)
        unknown = f"the run in {workdir} was made in Python and does not say what its data are"
        _set_data(opened.config, values, split, unknown if opened.in_python else "")
        return opened
    config = values.config
    setup.set_compiler_flags(config)
    _set_data(config, values, split, "" if config.data.source else "--model says nothing of data")
    if split is not None and config.data.dir:  # which features keep
        config.data.dir = os.path.abspath(os.path.expanduser(config.data.dir))
    if "detect" in config:
        config.detect.update(decode or {})
    _check_normalisation(config)
    weights = _read_weights(values)
    splits = None if split is None else setup.Splits(config)
    published = published_of(weights.weights.origin)
    if published is not None and not published.class_names and not partial:
        raise InputError(
            f"{published.full_name} are for features alone, without a layer for classes: use them "
            "with `jaxvision features`, or as config.init_from"
        )
    names = published.class_names if published is not None and not partial else ()
    if values.names:
        names = read_names(values.names)
    count = _set_class_names(config, names, weights, splits, split)
    found = config.data.get("class_names", ())
    if names and len(names) != len(found):
        what = f"--names={values.names} has" if values.names else f"{values.weights} are for"
        fix = "give a name for each, in their order" if values.names else "give data with the same"
        raise InputError(
            f"{what} {len(names)} classes, but there are {len(found)} ({listed(found)}): {fix}"
        )
    if count and count != len(found) and not partial:
        raise InputError(
            f"the weights are for {count} classes, but there are {len(found)} ({listed(found)}): "
            "give data or names with all classes that the weights have"
        )
    built = setup.build(config, evaluation=True)
    if names and splits is not None:  # the names of the data are those of its folders
        built = built._replace(task=dataclasses.replace(built.task, class_names=names))
    like = jax.eval_shape(built.task.init, jax.random.key(0))
    if partial:
        blank = jax.tree.map(lambda x: np.full(x.shape, np.nan, x.dtype), like)
        variables = pretrained_variables(
            built.task,
            weights.weights,
            variables=blank,
            **weights.how,
            reinit=config.reinit,
            log=log,
        )
    else:
        with _prefix_as_flag():
            variables = from_state_dict(weights.state_dict, like, **weights.how)
    return setup.Opened(config, built, variables, None, splits=splits)


def log_network(values: flags.FlagValues, opened: setup.Opened) -> None:
    """Shows which weights are used, and how images are prepared for them."""
    if opened.step is None:
        origin = values.weights or opened.config.init_from
        log(f"weights: {origin}; {_preparation(opened.task)}")
    else:
        log(f"the checkpoint of step {opened.step} in {values.workdir}")


def open_weights(values: flags.FlagValues) -> tuple[Any, dict[str, Any]]:
    """The network that the flags choose, without a task: (the module, its variables).

    Raises:
      InputError: as for `open_network`.
    """
    _check(values)
    config, weights = values.config, _read_weights(values)
    how = {**weights.how, "input_size": _input_shape(config)}
    if config.model.name == DARKNET:
        model = build_model(config, Code())
        found, _ = named_alike(weights.state_dict, _shapes(model, config), **weights.how)
        count = model.description.count_classes(found)
        if count is not None:
            model = DarknetNetwork(model.description.with_classes(count))
    else:
        count = class_count(build_model(config, Code()), weights.state_dict, **how)
        model = build_model(config, Code(), **({} if count is None else {"num_classes": count}))
    with _prefix_as_flag():
        return model, load_weights(model, weights.state_dict, **how)


def _shapes(model: nn.Module, config: Any) -> dict[str, Any]:
    """The shapes of the variables of a network, without those of a task."""
    return variable_shapes(model, jax.ShapeDtypeStruct((1, *_input_shape(config)), np.float32))


@contextlib.contextmanager
def _prefix_as_flag() -> Iterator[None]:
    """Makes an error that gives the prefix of the keys give it as a flag."""
    try:
        yield
    except InputError as error:
        message = re.sub(r"give prefix='(.*)'$", r"give --prefix=\1", str(error))
        raise InputError(message) from error


class _Renamed(NamedTuple):
    """Weights, and how their keys are renamed.

    Attributes:
      weights: as they are.
      how: prefix and key_map, as `from_state_dict` takes them.
    """

    weights: Weights
    how: Mapping[str, Any]

    @property
    def state_dict(self) -> Mapping[str, np.ndarray]:
        """Those of the weights, under their own keys."""
        return self.weights.state_dict


def _read_weights(values: flags.FlagValues) -> _Renamed:
    config = values.config
    prefix = values.prefix or config.init_prefix
    of_darknet = config.model.name == DARKNET
    weights = read_pretrained(
        values.weights or config.init_from,
        cfg=config.init_cfg or config.model.get("cfg"),
        like=None if of_darknet else lambda: _shapes(build_model(config, Code()), config),
    )
    with flag_errors(init_prefix="prefix", init_key_map="key-map"):
        check_prefix(prefix, weights)
        rules = _pairs(values.key_map) or config.init_key_map
        key_map = key_map_of(rules, weights, prefix)
    return _Renamed(weights, {"prefix": prefix, "key_map": key_map})


def _pairs(rules: Sequence[str]) -> list[tuple[str, str]]:
    """The rules of --key-map.

    Raises:
      InputError: one is not of the form old=new.
    """
    for rule in rules:
        if "=" not in rule:
            raise InputError(f"--key-map has {rule!r}: give rules of the form old=new, with commas")
    return [tuple(rule.split("=", 1)) for rule in rules]


def read_names(file: str) -> tuple[str, ...]:
    """The names in the file of --names.

    Raises:
      InputError: it cannot be read.
    """
    try:
        return tuple(lines_of(pathlib.Path(file).expanduser()))
    except InputError as error:  # it begins with the path
        raise InputError(f"--names={error}") from error


def _check(values: flags.FlagValues) -> None:
    """Raises InputError if flags of the group are missing or do not go together."""
    by_weights = "config" in values
    if by_weights == bool("workdir" in values and values.workdir):
        forms = "--model=NAME or --config=NAME with --weights=FILE, or --weights=MODEL:NAME"
        if "workdir" in values:
            forms = f"either --workdir=DIR, or {forms}"
        raise InputError(f"give {forms}")
    if not by_weights:
        stray = [x for x in ("weights", "prefix", "key_map", "names") if values[x].present]
        if stray:
            raise InputError(f"--{stray[0]} goes with --model or --config: leave it out")
    elif not values.weights and not values.config.init_from:
        raise InputError("no --weights: give the file or folder with those of the network")
    elif "trust_code" in values and values.trust_code:
        raise InputError("--trust_code is for the code that a run names: leave it out")


def _set_data(config: Any, values: flags.FlagValues, split: str | None, unknown: str) -> None:
    """Makes the data of a config those of --data and --source, if data will be read."""
    if split is not None:
        how = {"folder": values.data, "source": values.source}
        setup.set_data(config, split, **how, unknown=unknown)


def _check_normalisation(config: Any) -> None:
    """Raises InputError if nobody says how the images of a classifier are normalised."""
    for name in ("mean", "std") if config.task == "classification" else ():
        if not config.data[name]:
            example = (0.5,) * config.data.channels
            raise InputError(
                f"the {name} by which images for {config.model.name} are normalised is not "
                f"published: give that of the weights, such as --config.data.{name}='{example}'"
            )


def _set_class_names(
    config: Any,
    names: tuple[str, ...],
    weights: _Renamed,
    splits: setup.Splits | None,
    split: str | None,
) -> int | None:
    """Names the classes of a config: by the data, by the names of --names, or by numbers.

    Returns:
      how many classes the weights have, if they say it.
    Raises:
      InputError: nothing says how many classes there are.
    """
    data = config.data
    if "class_names" not in data:
        if names:
            raise InputError(f"--names: {config.task} has no classes, leave it out")
        return None
    count, usual = None, None
    if config.model.name == DARKNET:
        count = darknet_classes(description_of(config.model.cfg))
    elif config.task != "detection":
        model = build_model(config, Code())
        how = {**weights.how, "input_size": _input_shape(config)}
        count = class_count(model, weights.state_dict, **how)
        usual = getattr(model, "num_classes", None)
    if count == 1 and config.task == "segmentation":
        with config.unlocked():
            config.model.num_classes = 1
        count = 2
    if config.task == "segmentation" and data.source == "folder" and not data.class_names:
        data.class_names = names or setup.numbered(count or 0)  # the masks have numbers alone
    if splits is not None:
        setup.name_classes(splits, config, split=split, count=len(names) or count)
    if not data.class_names:
        known = data.get("num_classes") or count or usual
        if not known and not names:
            raise InputError("nothing says how many classes there are: give --names=FILE")
        data.class_names = names or setup.numbered(known)
    return count


def _input_shape(config: Any) -> tuple[int, int, int]:
    """(height, width, channels) of the input of a config's network."""
    grey = config.data.get("color", "rgb") != "rgb"
    channels = config.data.get("channels", 1 if grey else 3)
    if config.data.get("resize") in ("shorter_side", "fit"):
        options = read_group(setup.kind_of(config).groups["data"], config.data, "config.data")
        with option_paths("config.data", size="image_size"):
            return (*options.inputs().shape[:2], channels)
    return (config.data.image_size, config.data.image_size, channels)


def _preparation(task: Task) -> str:
    """How images become the input of a network, in words."""
    inputs = task.inputs
    height, width, _ = inputs.shape
    size = f"{width} x {height} pixels"
    if task.kind == "restoration":
        return "images of any size, in 0..1"
    if inputs.resize == "crop":
        shorter = inputs.shorter_side or max(inputs.shape[:2])
        size += f", cut out of the middle after the shorter side was resized to {shorter}"
    elif inputs.pads:
        sizes = " or ".join(f"{width} x {height}" for height, width in inputs.sizes)
        many = "up to " if inputs.shapes == "exact" else ""
        size = f"{many}{sizes} pixels, by {inputs.resize} and padding"
    elif inputs.resize:
        size += f", by {inputs.resize}"
    return f"images of {size}; mean {inputs.mean}, std {inputs.std}"
