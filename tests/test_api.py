"""The public API: every name of `jaxvision.__all__` is there, and is loaded when it is used."""

import ast
import json
import pathlib
import subprocess
import sys

import pytest

import jaxvision

ROOT = pathlib.Path(__file__).parents[1]
# What no part but `data` and `cli` needs; and what is imported where it is used.
HEAVY = ("grain", "tensorflow_datasets", "ml_collections", "tensorflow", "sklearn", "matplotlib")
# What `import jaxvision` does not load: it is quick, and needs only what is used.
LATER = (
    *("jax", "flax", "optax", "orbax", "grain", "tensorflow_datasets", "ml_collections"),
    *("numpy", "PIL", "matplotlib", "sklearn"),
)
IN_A_NEW_PROCESS = f"""
import json, sys
import jaxvision

found = {{"loaded": [name for name in {LATER} if name in sys.modules]}}
found["parts"] = [name for name in sys.modules if name.startswith("jaxvision.")]
found["listed"] = sorted(set(jaxvision.__all__) - set(dir(jaxvision)))
found["early"] = [name for name in jaxvision.__all__ if name in vars(jaxvision)]
sys.modules.update(dict.fromkeys(("grain", "tensorflow_datasets")))  # To import them is an error.
import jaxvision.data
import jaxvision.engine, jaxvision.interop, jaxvision.predict, jaxvision.tasks
found["needed"] = [name for name in {HEAVY} if sys.modules.get(name)]
found["module"] = jaxvision.predict.__name__
from jaxvision import predict
found["callable"] = callable(predict) and callable(jaxvision.predict)
found["function"] = callable(jaxvision.predict.predict)
from jaxvision.predict import draw_detections
found["still"] = callable(jaxvision.predict) and jaxvision.predict is predict
for name in jaxvision.__all__:
    getattr(jaxvision, name)
from jaxvision import *
found["starred"] = sorted(set(jaxvision.__all__) - set(globals()))
kept = ("grain", "tensorflow_datasets", "ml_collections", "jaxvision.cli")
found["heavy"] = [name for name in kept if sys.modules.get(name)]
print(json.dumps(found))
"""


@pytest.mark.slow
def test_a_new_process_loads_what_it_uses():
    """In one test, as to start a process takes seconds."""
    done = subprocess.run(
        [sys.executable, "-c", IN_A_NEW_PROCESS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)

    # Importing the package loads nothing else.
    assert found["loaded"] == found["parts"] == []
    assert found["early"] == ["__version__"]
    # Its parts load nothing that only `data` and `cli` need when they are used, and do not need
    # Grain and TFDS, which are kept from being imported here.
    assert found["needed"] == []
    # Every name is listed, and loaded when it is used.
    assert found["listed"] == found["starred"] == []
    # All names together load neither Grain nor the command line.
    assert found["heavy"] == []
    # `predict` is a package that can be called.
    assert found["module"] == "jaxvision.predict"
    assert found["callable"]
    assert found["function"]
    assert found["still"], "whatever is imported from the package"


def test_type_checkers_see_the_same_names():
    """`TYPE_CHECKING` repeats the imports, because the lazy ones are not seen by type checkers."""
    tree = ast.parse((ROOT / "jaxvision" / "__init__.py").read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    assert getattr(block.test, "id", None) == "TYPE_CHECKING"
    imported = {alias.asname or alias.name: node for node in block.body for alias in node.names}
    assert imported.keys() | {"__version__"} == set(jaxvision.__all__)
    for name, node in imported.items():
        module, attribute = jaxvision._EXPORTS[name]
        assert node.module == ("jaxvision" if attribute is None else f"jaxvision.{module}")
        assert name == (module if attribute is None else attribute)


def test_the_names_of_the_design_are_there():
    assert set(jaxvision.__all__) >= {
        *("create_model", "load_weights", "Inputs", "fit", "evaluate", "predict", "load_run"),
        *("InputError", "tasks", "data", "augment", "losses", "metrics", "ops", "testing"),
    }


def test_an_unknown_name_is_an_error():
    with pytest.raises(AttributeError, match="no attribute 'Trainer'"):
        _ = jaxvision.Trainer
