"""Imports go strictly downward, and nothing below `cli` knows of configs: on the syntax trees."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# Package or module of jaxvision -> its layer; CONTRIBUTING.md has the same table.
LAYERS = {
    "core": 0,
    "ops": 1,
    "testing": 1,
    "layers": 2,
    "losses": 2,
    "metrics": 2,
    "data": 2,
    "augment": 2,
    "models": 3,
    "interop": 4,
    "tasks": 5,
    "engine": 6,
    "predict": 6,
    "features": 6,
    "runs": 7,
    "planning": 7,
    "cli": 8,
}
# What a package may import where that is less than everything below it.
ONLY = {"engine": {"core"}}
# They re-export and start, so they may import all layers. In turn only the top layer imports them.
FACADES = {"__init__", "__main__"}
TOP_LAYER = max(LAYERS.values())

# Distribution -> the packages that may import it.
RESERVED = {"grain": {"data"}, "tensorflow_datasets": {"data"}, "ml_collections": {"cli"}}
# Names in JAX -> the files that may use them.
PARALLEL = {"pmap", "shard_map"}
PARALLEL_FILES = {"engine/parallel.py", "testing.py"}

NAMELESS = {"utils", "helpers", "common", "misc"}

# Where a config is meant that is not one of jaxvision's: file -> the strings and names there.
OTHER_CONFIGS = {
    # Orbax's and TFDS's own names.
    "data/sources/tfds_source.py": {"config", "builder_config", "NAME/CONFIG"},
    # The key of run.json that keeps what the command line was given.
    "engine/workdir.py": {"config"},
    # XLA's description of a GPU, and JAX's own settings.
    "planning/topology.py": {"GpuTargetConfigProto", "target_config", "jax.config"},
}


def package_of(file, library):
    """The package of the library that a file belongs to; a module at its top is one as well."""
    return file.relative_to(library).with_suffix("").parts[0]


def imported_modules(tree, file, library):
    """(line, dotted name) of everything imported anywhere in a file, lazily too.

    `from a import b` gives a.b, because b may be a module; relative imports become absolute.
    """
    here = [library.name, *file.relative_to(library).parent.parts]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else []
            base = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args:
            called = getattr(node.func, "attr", getattr(node.func, "id", None))
            name = node.args[0]
            if called in ("import_module", "__import__") and isinstance(name, ast.Constant):
                yield node.lineno, str(name.value)


def parallel_names(tree):
    """(line, name) of every use of jax.pmap or jax.shard_map, however it was imported."""
    bound = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None) or ""
            for alias in node.names:
                path = f"{module}.{alias.name}".strip(".").split(".")
                if path[0] == "jax":
                    bound.add(alias.asname or alias.name.split(".")[0])
                    yield from ((node.lineno, name) for name in path if name in PARALLEL)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in PARALLEL:
            owner = node.value
            while isinstance(owner, ast.Attribute):
                owner = owner.value
            if isinstance(owner, ast.Name) and owner.id in bound:
                yield node.lineno, node.attr


def import_problem(package, name, library):
    """What is wrong with importing `name` in a package (None: a facade), or None."""
    top, *rest = name.split(".")
    if top in RESERVED and package not in RESERVED[top]:
        return f"{top} is for {' and '.join(sorted(RESERVED[top]))} only"
    if top != library.name or package is None:
        return None
    other = rest[0] if rest else ""
    is_file = (library / other).is_dir() or (library / f"{other}.py").is_file()
    if not other or not (is_file or other in LAYERS) or other in FACADES:
        problem = f"{name} is the facade: import from the package that has it"
        return None if LAYERS[package] == TOP_LAYER else problem
    if other == package:
        return None
    if other not in LAYERS:
        return f"{other} is not in the table of layers"
    if LAYERS[other] >= LAYERS[package]:
        return f"{package} (layer {LAYERS[package]}) imports {other} (layer {LAYERS[other]})"
    if other not in ONLY.get(package, LAYERS):
        return f"{package} imports {other}, and may import {', '.join(ONLY[package])} only"
    return None


def layer_problems(library):
    """Everything in a library that breaks the rules of imports, as "file:line: what"."""
    problems = []
    for file in sorted(library.rglob("*.py")):
        path = file.relative_to(library).as_posix()
        package = package_of(file, library)
        tree = ast.parse(file.read_text(), path)
        if package in FACADES:
            package = None
        elif package not in LAYERS:
            problems.append(f"{path}:1: {package} is not in the table of layers")
            continue
        for line, name in imported_modules(tree, file, library):
            if problem := import_problem(package, name, library):
                problems.append(f"{path}:{line}: {problem}")
        if path not in PARALLEL_FILES:
            problems += [
                f"{path}:{line}: {name} is for engine/parallel.py only"
                for line, name in parallel_names(tree)
            ]
    return problems


CONFIG_NAME = re.compile(r"config(?!ur)|ml_collections", re.IGNORECASE)
CONFIG_WORD = re.compile(r"[\w/.]*(config(?!ur)|ml_collections)[\w/]*", re.IGNORECASE)


def names_of(node):
    """The names that a node of a syntax tree has itself, those of its children excluded."""
    if isinstance(node, ast.alias):
        return [part for name in (node.name, node.asname or "") for part in name.split(".")]
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").split(".")
    if isinstance(node, ast.Global | ast.Nonlocal):
        return node.names
    fields = (getattr(node, field, None) for field in ("id", "attr", "arg", "name", "asname"))
    return [name for name in fields if isinstance(name, str)]


def is_config_of_jax(node):
    """Whether a node is `jax.config`."""
    value = getattr(node, "value", None)
    return getattr(node, "attr", None) == "config" and getattr(value, "id", None) == "jax"


def config_problems(library):
    """Every name, annotation, docstring and message below the top layer that speaks of configs.

    Names are those of variables, arguments, keywords, attributes, functions, classes and modules.
    """
    problems = []
    for file in sorted(library.rglob("*.py")):
        path = file.relative_to(library).as_posix()
        if LAYERS.get(package_of(file, library), 0) == TOP_LAYER:
            continue
        allowed = OTHER_CONFIGS.get(path, set())
        for node in ast.walk(ast.parse(file.read_text(), path)):
            found = (
                [] if is_config_of_jax(node) else list(filter(CONFIG_NAME.search, names_of(node)))
            )
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found = [match[0] for match in CONFIG_WORD.finditer(node.value)]
            problems += [
                f"{path}:{getattr(node, 'lineno', 1)}: {word!r} is for cli only"
                for word in found
                if word not in allowed
            ]
    return problems


def test_imports_go_strictly_downward():
    assert layer_problems(ROOT / "jaxvision") == []


def test_nothing_below_the_command_line_speaks_of_configs():
    assert config_problems(ROOT / "jaxvision") == []


def test_every_exception_for_configs_is_used():
    for path, words in OTHER_CONFIGS.items():
        text = (ROOT / "jaxvision" / path).read_text()
        assert [word for word in words if word not in text] == []


def test_no_file_is_called_utils():
    files = (file.relative_to(ROOT) for file in ROOT.rglob("*.py"))
    visible = (file for file in files if not any(part.startswith(".") for part in file.parts))
    assert [str(f) for f in visible if NAMELESS & set(f.with_suffix("").parts)] == []


def write_library(folder, files):
    library = folder / "jaxvision"
    for path in ("__init__.py", "core/__init__.py", "losses/__init__.py", "models/__init__.py"):
        files = {path: "", **files}
    for path, text in files.items():
        (library / path).parent.mkdir(parents=True, exist_ok=True)
        (library / path).write_text(text)
    return library


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("__init__.py", "from jaxvision.models import MODELS"),
        ("__main__.py", "from jaxvision.cli.main import main"),
        ("models/a.py", "import numpy\nfrom jaxvision.losses import b\nfrom . import c"),
        ("models/sub/a.py", "from ..other import x\nfrom ...core import y"),
        ("models/a.py", "from jaxvision import losses"),
        ("engine/a.py", "from jaxvision.core import b"),
        ("engine/parallel.py", "import jax\njax.pmap"),
        ("testing.py", "import jax\njax.pmap"),
        ("data/a.py", "import grain"),
        ("cli/a.py", "import ml_collections\nfrom jaxvision import __version__, data, engine"),
        ("engine/a.py", '"""jax.pmap"""\nconfig.shard_map\nx = grain = 1'),
    ],
)
def test_the_checker_passes_what_is_allowed(tmp_path, path, text):
    assert layer_problems(write_library(tmp_path, {path: text})) == []


@pytest.mark.parametrize(
    ("path", "text", "problem"),
    [
        ("losses/a.py", "import jaxvision.models", "losses (layer 2) imports models (layer 3)"),
        ("losses/a.py", "from jaxvision import models", "losses (layer 2) imports models"),
        ("losses/a.py", "from jaxvision.metrics import b", "(layer 2) imports metrics (layer 2)"),
        ("losses/a.py", "from ..metrics import b", "(layer 2) imports metrics (layer 2)"),
        ("losses/a.py", "from .. import metrics", "(layer 2) imports metrics (layer 2)"),
        ("losses/__init__.py", "from ..metrics import b", "imports metrics (layer 2)"),
        ("core/a.py", "def f():\n  from jaxvision.ops import b", "core (layer 0) imports ops"),
        ("ops/a.py", "from jaxvision.testing import b", "ops (layer 1) imports testing (layer 1)"),
        ("core/a.py", "importlib.import_module('jaxvision.cli')", "imports cli (layer 8)"),
        ("predict.py", "import jaxvision.engine", "predict (layer 6) imports engine (layer 6)"),
        ("engine/a.py", "from jaxvision.layers import b", "may import core only"),
        ("engine/a.py", "from jaxvision.tasks.classification import b", "may import core only"),
        ("losses/a.py", "from jaxvision import create_model", "is the facade"),
        ("losses/a.py", "import jaxvision", "is the facade"),
        ("extras/a.py", "", "extras is not in the table of layers"),
        ("extras.py", "", "extras is not in the table of layers"),
        ("cli/a.py", "import jaxvision.losses.a\nimport jaxvision.data", None),
        ("tasks/a.py", "import ml_collections", "ml_collections is for cli only"),
        ("engine/a.py", "def f():\n  from grain import b", "grain is for data only"),
        ("__init__.py", "import tensorflow_datasets as tfds", "is for data only"),
        ("engine/a.py", "import jax\njax.pmap(f)", "pmap is for engine/parallel.py only"),
        ("engine/a.py", "from jax import shard_map", "shard_map is for engine/parallel.py"),
        ("ops/a.py", "import jax as j\nj.experimental.shard_map.x", "shard_map is for engine"),
        ("ops/a.py", "from jax.experimental.shard_map import shard_map", "shard_map is for"),
    ],
)
def test_the_checker_catches(tmp_path, path, text, problem):
    found = layer_problems(write_library(tmp_path, {path: text}))
    if problem is None:
        assert found == []
    else:
        assert found
        assert all(f.startswith(f"{path}:") and problem in f for f in found)


def test_the_checker_names_a_package_outside_the_table_that_is_imported(tmp_path):
    library = write_library(tmp_path, {"extras.py": "", "cli/a.py": "from jaxvision import extras"})
    assert layer_problems(library) == [
        "cli/a.py:1: extras is not in the table of layers",
        "extras.py:1: extras is not in the table of layers",
    ]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("ops/a.py", "import jax\njax.config.update('jax_enable_x64', True)"),
        ("ops/a.py", "def configure(x):\n  return 'the configuration D'"),
        ("engine/workdir.py", "x = {'config': 3}"),
        ("cli/a.py", "from ml_collections import ConfigDict\ndef f(config): 'of the config'"),
    ],
)
def test_the_checker_of_configs_passes_what_is_allowed(tmp_path, path, text):
    assert config_problems(write_library(tmp_path, {path: text})) == []


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("def f(config): pass", "config"),
        ("def f(*, run_config): pass", "run_config"),
        ("def f(x: ConfigDict): pass", "ConfigDict"),
        ("import ml_collections", "ml_collections"),
        ("def f():\n  from ml_collections import config_dict as c", "ml_collections"),
        ("f(config=3)", "config"),
        ("self.config", "config"),
        ("class Config: pass", "Config"),
        ("def find_config(): pass", "find_config"),
        ("x = config", "config"),
        ("import x as config", "config"),
        ('"""A docstring.\n\nFor configs.\n"""', "configs"),
        ("raise E(f'config.data.size is {x}')", "config"),
        ("raise E('give it in the config')", "config"),
        ("open('configs/voc.py')", "configs/voc"),
    ],
)
def test_the_checker_of_configs_catches(tmp_path, text, word):
    found = config_problems(write_library(tmp_path, {"ops/a.py": text}))
    assert any(line.startswith("ops/a.py:") and repr(word) in line for line in found), found
