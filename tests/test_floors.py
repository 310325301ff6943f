"""Imports go strictly downward: DESIGN.md's table of rooms and floors, on the syntax tree."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]

FLOORS = {
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
    "cli": 8,
}
# What a room may import where that is less than everything below it.
ONLY = {"engine": {"core"}}
# Exempt from the floors: they re-export and start, so that users need not know the rooms. In turn
# no room but those on the top floor imports them.
FACADES = {"__init__", "__main__"}
TOP_FLOOR = max(FLOORS.values())

# Package -> the rooms that may import it.
RESERVED = {name: {"data", "cli"} for name in ("grain", "tensorflow_datasets", "ml_collections")}
# Names in JAX -> the files that may use them.
PARALLEL = {"pmap", "shard_map"}
PARALLEL_FILES = {"engine/parallel.py", "testing.py"}

NAMELESS = {"utils", "helpers", "common", "misc"}


def room_of(file, package):
    """The room that a file of the package belongs to: a folder, or a module at the top."""
    parts = file.relative_to(package).with_suffix("").parts
    return parts[0]


def imported_modules(tree, file, package):
    """(line, dotted name) of everything imported anywhere in a file, lazily too.

    `from a import b` gives a.b, because b may be a module; relative imports become absolute.
    """
    here = [package.name, *file.relative_to(package).parent.parts]
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


def import_problem(room, name, package):
    """What is wrong with importing `name` in a room (None: a facade), or None."""
    top, *rest = name.split(".")
    if top in RESERVED and room not in RESERVED[top]:
        return f"{top} is for {' and '.join(sorted(RESERVED[top]))} only"
    if top != package.name or room is None:
        return None
    other = rest[0] if rest else ""
    is_file = (package / other).is_dir() or (package / f"{other}.py").is_file()
    if not other or not (is_file or other in FLOORS) or other in FACADES:
        return None if FLOORS[room] == TOP_FLOOR else f"{name} is the facade: import from its room"
    if other == room:
        return None
    if other not in FLOORS:
        return f"room {other} is not in the table"
    if FLOORS[other] >= FLOORS[room]:
        return f"{room} (floor {FLOORS[room]}) imports {other} (floor {FLOORS[other]})"
    if other not in ONLY.get(room, FLOORS):
        return f"{room} imports {other}, and may import {', '.join(ONLY[room])} only"
    return None


def floor_problems(package):
    """Everything in a package that breaks the rules, as "file:line: what"."""
    problems = []
    for file in sorted(package.rglob("*.py")):
        path = file.relative_to(package).as_posix()
        room = room_of(file, package)
        tree = ast.parse(file.read_text(), path)
        if room in FACADES:
            room = None
        elif room not in FLOORS:
            problems.append(f"{path}:1: room {room} is not in the table")
            continue
        for line, name in imported_modules(tree, file, package):
            if problem := import_problem(room, name, package):
                problems.append(f"{path}:{line}: {problem}")
        if path not in PARALLEL_FILES:
            problems += [
                f"{path}:{line}: {name} is for engine/parallel.py only"
                for line, name in parallel_names(tree)
            ]
    return problems


def test_imports_go_strictly_downward():
    assert floor_problems(ROOT / "jaxvision") == []


def test_no_file_is_called_utils():
    files = (file.relative_to(ROOT) for file in ROOT.rglob("*.py"))
    visible = (file for file in files if not any(part.startswith(".") for part in file.parts))
    assert [str(f) for f in visible if NAMELESS & set(f.with_suffix("").parts)] == []


def write_package(folder, files):
    package = folder / "jaxvision"
    for path in ("__init__.py", "core/__init__.py", "losses/__init__.py", "models/__init__.py"):
        files = {path: "", **files}
    for path, text in files.items():
        (package / path).parent.mkdir(parents=True, exist_ok=True)
        (package / path).write_text(text)
    return package


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
    assert floor_problems(write_package(tmp_path, {path: text})) == []


@pytest.mark.parametrize(
    ("path", "text", "problem"),
    [
        ("losses/a.py", "import jaxvision.models", "losses (floor 2) imports models (floor 3)"),
        ("losses/a.py", "from jaxvision import models", "losses (floor 2) imports models"),
        ("losses/a.py", "from jaxvision.metrics import b", "(floor 2) imports metrics (floor 2)"),
        ("losses/a.py", "from ..metrics import b", "(floor 2) imports metrics (floor 2)"),
        ("losses/a.py", "from .. import metrics", "(floor 2) imports metrics (floor 2)"),
        ("losses/__init__.py", "from ..metrics import b", "imports metrics (floor 2)"),
        ("core/a.py", "def f():\n  from jaxvision.ops import b", "core (floor 0) imports ops"),
        ("ops/a.py", "from jaxvision.testing import b", "ops (floor 1) imports testing (floor 1)"),
        ("core/a.py", "importlib.import_module('jaxvision.cli')", "imports cli (floor 8)"),
        ("predict.py", "import jaxvision.engine", "predict (floor 6) imports engine (floor 6)"),
        ("engine/a.py", "from jaxvision.layers import b", "may import core only"),
        ("engine/a.py", "from jaxvision.tasks.classification import b", "may import core only"),
        ("losses/a.py", "from jaxvision import create_model", "is the facade"),
        ("losses/a.py", "import jaxvision", "is the facade"),
        ("extras/a.py", "", "room extras is not in the table"),
        ("extras.py", "", "room extras is not in the table"),
        ("cli/a.py", "import jaxvision.losses.a\nimport jaxvision.data", None),
        ("tasks/a.py", "import ml_collections", "ml_collections is for cli and data only"),
        ("engine/a.py", "def f():\n  from grain import b", "grain is for cli and data only"),
        ("__init__.py", "import tensorflow_datasets as tfds", "is for cli and data only"),
        ("engine/a.py", "import jax\njax.pmap(f)", "pmap is for engine/parallel.py only"),
        ("engine/a.py", "from jax import shard_map", "shard_map is for engine/parallel.py"),
        ("ops/a.py", "import jax as j\nj.experimental.shard_map.x", "shard_map is for engine"),
        ("ops/a.py", "from jax.experimental.shard_map import shard_map", "shard_map is for"),
    ],
)
def test_the_checker_catches(tmp_path, path, text, problem):
    found = floor_problems(write_package(tmp_path, {path: text}))
    if problem is None:
        assert found == []
    else:
        assert found
        assert all(f.startswith(f"{path}:") and problem in f for f in found)


def test_the_checker_names_a_room_outside_the_table_that_is_imported(tmp_path):
    package = write_package(tmp_path, {"extras.py": "", "cli/a.py": "from jaxvision import extras"})
    assert floor_problems(package) == [
        "cli/a.py:1: room extras is not in the table",
        "extras.py:1: room extras is not in the table",
    ]


HEAVY = ("grain", "tensorflow_datasets", "ml_collections", "tensorflow", "sklearn", "matplotlib")


def test_importing_the_library_loads_nothing_that_only_data_and_cli_need():
    """Nor does it need Grain and TFDS, which are kept from being imported here."""
    rooms = ("jaxvision", "jaxvision.tasks", "jaxvision.interop", "jaxvision.engine")
    code = f"""if True:
        import sys
        sys.modules.update(dict.fromkeys(("grain", "tensorflow_datasets")))
        import {", ".join(rooms)}, jaxvision.predict
        print(*(name for name in {HEAVY} if sys.modules.get(name)))
    """
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
