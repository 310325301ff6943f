"""Configs: every key with its default and meaning, and how a file of `configs/` is found."""

import ast
import importlib.util
import pathlib

from ml_collections import ConfigDict

from jaxvision.cli.kinds import KINDS
from jaxvision.cli.optimizers import HeadWarmupOptions, OptimizerOptions
from jaxvision.cli.options import group_of, keys_of
from jaxvision.cli.run_options import BestOptions, LossOptions, ModelOptions, RunOptions
from jaxvision.core import InputError, close_names, lookup

ANCHORS = "(width, height) of each anchor in pixels of the input, those of all maps"


def groups_of(task: str) -> dict[str, type]:
    """Group of a task's config -> dataclass of its options; "" is the config itself.

    Args:
      task: a key of `jaxvision.cli.kinds.KINDS`.
    Raises:
      InputError: there is no such task.
    """
    return {
        "": RunOptions,
        "head_warmup": HeadWarmupOptions,
        "best": BestOptions,
        "model": ModelOptions,
        "loss": LossOptions,
        **lookup(KINDS, task, "task").groups,
        "optimizer": OptimizerOptions,
    }


def default_config(task: str = "classification") -> ConfigDict:
    """All keys of a task's config; a file in `configs/` changes what it needs.

    Args:
      task: a key of `jaxvision.cli.kinds.KINDS`.
    Raises:
      InputError: there is no such task.
    """
    config = ConfigDict({"task": task})
    groups = groups_of(task)
    defaults = KINDS[task].defaults
    for path, options in groups.items():
        own = {
            key.rpartition(".")[2]: value
            for key, value in defaults.items()
            if key.rpartition(".")[0] == path
        }
        if path:
            config[path] = group_of(options, own)
        else:
            config.update(group_of(options, own))
    if "anchors" in defaults:
        config.anchors = defaults["anchors"]
    return config


def check_complete(config: ConfigDict) -> None:
    """Raises InputError if a config lacks a key of its task, as one with a group {} does."""
    lookup(KINDS, config.get("task"), "task")

    def check(group: ConfigDict, default: ConfigDict, path: str) -> None:
        for key, value in default.items():
            if key not in group:
                raise InputError(
                    f"{path} has no {key!r}: give it too, as {path}.{key}, or begin the config "
                    f"with default_config({config.task!r})"
                )
            if isinstance(value, ConfigDict):
                check(group[key], value, f"{path}.{key}")

    check(config, default_config(config.task), "config")


def documented_keys(task: str = "classification") -> dict[str, str]:
    """Key of a task's config -> what it means."""
    keys = {"anchors": ANCHORS}
    for path, options in groups_of(task).items():
        keys |= keys_of(options, f"{path}." if path else "")
    return keys


def configs_folder() -> pathlib.Path:
    """Where the shipped configs are: in the package, or beside it in a checkout."""
    package = pathlib.Path(__file__).parent.parent
    shipped = package / "configs"
    return shipped if shipped.is_dir() else package.parent / "configs"


def shipped_configs() -> dict[str, pathlib.Path]:
    """Name -> file of every shipped config."""
    return {path.stem: path for path in sorted(configs_folder().glob("[!_]*.py"))}


def summary(path: pathlib.Path) -> str:
    """The first line of a config's docstring; empty for a file that is not Python."""
    try:
        return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
    except (SyntaxError, ValueError):
        return ""


def find_config(name: str) -> pathlib.Path:
    """The file that `--config=NAME` means: a path, or the name of a shipped config.

    Raises:
      InputError: there is neither; names the close ones.
    """
    path = pathlib.Path(name).expanduser()
    if path.is_file():
        return path
    shipped = shipped_configs()
    if path.stem in shipped and name in (path.stem, f"configs/{path.stem}.py"):
        return shipped[path.stem]
    raise InputError(f"no config {name!r}: {close_names(path.stem, shipped)}")


def load_config(path: pathlib.Path) -> ConfigDict:
    """What the `get_config` of a file gives.

    Raises:
      InputError: the file fails, or has no such function, or that returns no config; names the
        line.
    """
    path = path.absolute()  # as in tracebacks
    spec = importlib.util.spec_from_file_location(f"jaxvision_config_{path.stem}", path)
    if spec is None:
        raise InputError(f"config {path} is no Python file: give a .py file with get_config()")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config()
    except Exception as error:  # anything may go wrong in a user's file
        trace, line = error.__traceback__, "?"
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == str(path):
                line = trace.tb_lineno
            trace = trace.tb_next
        raise InputError(
            f"config {path}, line {getattr(error, 'lineno', line)}: "
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        ) from error
    if not isinstance(config, ConfigDict):
        raise InputError(
            f"config {path}: get_config() returns {type(config).__name__}: return a ConfigDict, "
            "such as that of jaxvision.cli.config.default_config()"
        )
    return config
