"""Descriptions: plain JSON for named parts and back, and what can only be compared."""

import dataclasses
import functools
import json
import math
import sys
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.cli.code import Code
from jaxvision.core import InputError, Inputs
from jaxvision.core.describe import code_of, describe, differences, flat, restore
from jaxvision.layers import NORMS
from jaxvision.models import HEADS, MODELS, create_model

ACTIVATIONS = {
    "gelu": functools.partial(nn.gelu, approximate=False),
    "hard_silu": nn.hard_silu,
    "relu": nn.relu,
    "relu6": nn.relu6,
    "silu": nn.silu,
    "tanh": jnp.tanh,
}
TABLES = {"models": MODELS, "norms": NORMS, "activations": ACTIVATIONS}


def scaled(x, y=1, *, z=2):
    return x * y * z


@dataclasses.dataclass(frozen=True)
class Flip:
    probability: float = 0.5
    swap: tuple[int, ...] = ()
    name: str = ""


@dataclasses.dataclass(frozen=True)
class Both:
    steps: tuple[Any, ...]


class Pair(NamedTuple):
    one: Any
    two: Any = 3


@dataclasses.dataclass(frozen=True)
class Mine:
    factor: float = 2.0

    def loss(self, x):
        return self.factor * x


OWN = {
    "functions": {"scaled": scaled, "doubled": functools.partial(scaled, z=4)},
    "classes": {"Flip": Flip, "Both": Both, "Pair": Pair, "often": functools.partial(Flip, 0.9)},
}


@pytest.mark.parametrize(
    ("value", "description"),
    [
        (None, None),
        (True, True),
        (3, 3),
        (np.int64(3), 3),
        (0.1, 0.1),
        ("bilinear", "bilinear"),
        (math.inf, {"number": "inf"}),
        ((1, (2, "a")), [1, [2, "a"]]),
        ({"a": (1,)}, {"mapping": {"a": [1]}}),
        ({"name": 1}, {"mapping": {"name": 1}}),
        (jnp.bfloat16, {"dtype": "bfloat16"}),
        (jnp.float32, {"dtype": "float32"}),
        (scaled, {"name": "scaled"}),
        (functools.partial(scaled, z=4), {"name": "doubled"}),
        (functools.partial(scaled, z=5), {"name": "scaled", "z": 5}),
        (functools.partial(scaled, y=3, z=4), {"name": "doubled", "y": 3}),
        (functools.partial(scaled, 2, z=5), {"name": "scaled", "arguments": [2], "z": 5}),
        (Flip(), {"name": "Flip"}),
        (Flip(0.9), {"name": "often"}),
        (Flip(0.9, (1, 0)), {"name": "often", "swap": [1, 0]}),
        (Flip(0.1), {"name": "Flip", "probability": 0.1}),
        (Flip(name="a"), {"name": "Flip", "fields": {"name": "a"}}),
        (Both((Flip(), scaled)), {"name": "Both", "steps": [{"name": "Flip"}, {"name": "scaled"}]}),
        (Pair(Flip), {"name": "Pair", "one": {"constructor": "Flip"}}),
        (functools.partial(Flip, swap=(1,)), {"constructor": "Flip", "swap": [1]}),
        (functools.partial(Flip, 0.9, (1,)), {"constructor": "often", "swap": [1]}),
    ],
)
def test_forms(value, description):
    found = describe(value, OWN)
    assert found == description
    assert json.loads(json.dumps(found)) == found
    restored = restore(json.loads(json.dumps(found)), OWN)
    assert describe(restored, OWN) == description
    if isinstance(value, functools.partial):
        arguments = () if value.func is Flip or value.args else (1,)
        assert restored(*arguments) == value(*arguments)
    else:
        assert restored == value


def test_what_is_not_a_number_stays_so():
    assert math.isnan(restore(describe(math.nan, {}), {}))


@pytest.mark.parametrize("dtype", ["f4", "i4", "?"])
def test_a_small_array_comes_back(dtype):
    x = np.arange(6).reshape(2, 3).astype(dtype)
    for given in (x, jnp.asarray(x)):
        back = restore(describe(given, {}), {})
        np.testing.assert_array_equal(back, x)
        assert back.dtype == x.dtype


def test_a_large_array_is_compared_by_its_digest():
    x = np.arange(100.0)
    found = describe(x, {})
    assert found == describe(x.copy(), {})
    assert found != describe(x + 1, {})
    assert found["shape"] == [100]
    with pytest.raises(InputError, match=r"is an array of \[100\]: give the object itself"):
        restore(found, {})
    assert describe(jax.random.key(0), {}) != describe(jax.random.key(1), {})


def test_a_name_in_two_tables_says_which():
    tables = {"models": {"yolov3": scaled}, "detectors": {"yolov3": Flip}}
    assert describe(scaled, tables) == {"name": "models/yolov3"}
    assert describe(Flip(), tables) == {"name": "detectors/yolov3"}
    assert restore({"name": "models/yolov3"}, tables) is scaled
    assert restore({"name": "detectors/yolov3"}, tables) == Flip()
    with pytest.raises(InputError, match="give models/yolov3 or detectors/yolov3"):
        restore({"name": "yolov3"}, tables)


# The same network, for other images.
TWINS = {"fasterrcnn_mobilenet_v3_large_320_fpn": "fasterrcnn_mobilenet_v3_large_fpn"}


def test_every_model_is_described_by_its_name_and_restored():
    for name, constructor in MODELS.items():
        model = constructor()
        description = describe(model, TABLES)
        assert description == {"name": TWINS.get(name, name)}
        assert restore(description, TABLES) == model, name


def test_every_model_with_another_head_is_described_and_restored():
    count = 0
    for name, constructor in MODELS.items():
        if hasattr(constructor(), "num_classes"):
            model = constructor(num_classes=3, param_dtype=jnp.bfloat16)
            description = describe(model, TABLES)
            # Two entries may differ in nothing else, as a network for another data set does.
            assert description["num_classes"] == 3 or constructor().num_classes == 3
            assert restore(description, TABLES) == model, name
            count += 1
    assert count > 140


def test_nearly_all_models_are_described_completely():
    """Field by field from their classes alone, so that any change of a field is."""
    models = [constructor() for constructor in MODELS.values()]
    records = {type(model).__name__: type(model) for model in models}
    # What some fields hold is a named tuple or a dataclass of the network's own file.
    parts = {
        f"{module.__name__.rpartition('.')[2]}.{value.__name__}": value
        for module in {sys.modules[cls.__module__] for cls in records.values()}
        for value in vars(module).values()
        if isinstance(value, type)
        and value.__module__ == module.__name__
        and (dataclasses.is_dataclass(value) or hasattr(value, "_fields"))
        and value not in records.values()
    }
    tables = {"classes": records, "parts": parts, "norms": NORMS, "activations": ACTIVATIONS}
    tables["heads"] = HEADS
    complete = 0
    for model in models:
        description = describe(model, tables)
        if '"object"' in json.dumps(description):
            continue
        restored = restore(json.loads(json.dumps(description)), tables)
        # A restored partial is another object than the module's.
        assert describe(restored, tables) == describe(model, tables)
        complete += 1
    assert complete >= 151
    assert len(models) - complete <= 5


def test_fields_of_a_model_are_described_in_turn():
    model = create_model(
        "resnet18",
        num_classes=3,
        norm=functools.partial(NORMS["batch_norm"], epsilon=1e-3),
        act=nn.silu,
        dtype=jnp.bfloat16,
    )
    assert describe(model, TABLES) == {
        "name": "resnet18",
        "num_classes": 3,
        "act": {"name": "silu"},
        "norm": {"name": "batch_norm", "epsilon": 0.001},
        "dtype": {"dtype": "bfloat16"},
    }


class OwnNet(nn.Module):
    """A network of the user's own."""

    width: int = 3


def test_what_has_no_name_is_described_by_its_source_and_not_restored():
    def closure(x):
        return x

    name = f"{__name__}:"
    for value, qualname in [
        (closure, closure.__qualname__),
        (scaled, "scaled"),
        (jax.jit(scaled), "scaled"),
        (OwnNet, "OwnNet"),
    ]:
        found = describe(value, TABLES)
        assert found["object"] == name + qualname
        assert len(found["sha256"]) == 64
        with pytest.raises(InputError, match="which has no name: give the object itself"):
            restore(found, TABLES)
    found = describe(OwnNet(width=5), TABLES)
    assert (found["object"], found["width"]) == (f"{name}OwnNet", 5)
    found = describe(functools.partial(scaled, z=NORMS["batch_norm"]), TABLES)
    assert (found["object"], found["z"]) == (f"{name}scaled", {"name": "batch_norm"})
    found = describe(Mine(3.0).loss, {})
    assert (found["object"], found["self"]["factor"]) == (f"{name}Mine.loss", 3.0)


def test_libraries_have_no_digest_for_their_version_has():
    assert describe(jnp.sin, {})["sha256"] is None
    assert describe(Inputs((8, 8)), {})["sha256"] is None
    assert code_of(describe((jnp.sin, Inputs((8, 8)), scaled), {})) == {
        f"{__name__}:scaled": describe(scaled, {})["sha256"]
    }


def test_a_function_of_a_file_is_called_by_the_name_of_the_file(tmp_path):
    file = tmp_path / "my_loss.py"
    file.write_text("def loss(x):\n    return x\n")
    found = describe(Code().find({}, f"{file}:loss", "loss"), {})
    assert found["object"] == "my_loss.py:loss"
    assert found["sha256"] is not None


def test_the_digest_follows_the_source(tmp_path):
    digests = set()
    for number in range(2):
        file = tmp_path / f"{number}" / "own.py"
        file.parent.mkdir()
        file.write_text(f"def loss(x):\n    return x + {number}\n")
        digests.add(describe(Code().find({}, f"{file}:loss", "loss"), {})["sha256"])
    assert len(digests) == 2


def test_flat_and_differences():
    old = {"a": 1, "b": {"c": [1, 2], "d": "x"}, "gone": None, "steps": [{"p": 0.1}, {"p": 2}]}
    new = {"a": 1, "b": {"c": [1, 3], "d": "x", "e": 0}, "steps": [{"p": 0.1}, {"p": 3}]}
    assert flat(old)["steps.1.p"] == 2
    assert flat({"a": {}, "b": []}) == {"a": {}, "b": []}
    assert differences(old, new) == [
        "b.c: [1, 2] -> [1, 3]",
        "b.e: (absent) -> 0",
        "gone: null -> (absent)",
        "steps.1.p: 2 -> 3",
    ]
    assert differences(old, old) == []


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"name": "resnet81"}, "object: unknown name 'resnet81': did you mean 'resnet18'"),
        ({"name": "resnet18", "norm": {"name": "bn"}}, "^norm: unknown name 'bn'"),
        ({"name": "resnet18", "widht": 3}, "the description cannot be restored: .*widht"),
        ([{"object": "os:system", "sha256": None}], r"^\[0\] is os:system, which has no name"),
        ({"nothing": 3}, "neither a name nor a value"),
        ({"dtype": "os.system"}, "cannot be restored"),
        ({"name": "os:system"}, "unknown name 'os:system'"),
    ],
)
def test_what_cannot_be_restored_says_which_part(description, message):
    with pytest.raises(InputError, match=message):
        restore(description, TABLES)


def test_restoring_imports_nothing(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("imports")

    monkeypatch.setattr("builtins.__import__", refuse)
    assert restore({"name": "Flip", "probability": 0.25}, OWN) == Flip(0.25)
