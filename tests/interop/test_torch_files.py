"""Files that torch has saved, read without it: tensors come back, and nothing else is made."""

import contextlib
import subprocess
import sys

import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.interop import read_state_dict
from tests.interop.torch_format import archive, call, items, sequence, state_dict, tensor, value

X = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture(autouse=True)
def _without_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)


def read(folder, content):
    (folder / "weights.pth").write_bytes(content)
    return read_state_dict(folder / "weights.pth")


def test_numbers_of_every_kind_come_back(tmp_path):
    kinds = ("float64", "float32", "float16", "int64", "uint8", "bool", "complex64")
    state = {kind: X.astype(kind) for kind in kinds} | {"none": np.zeros((0, 3), np.float32)}
    found = read(tmp_path, state_dict({**state, "half": X.astype("bfloat16")}))
    for key, x in {**state, "half": X}.items():
        assert found[key].dtype == x.dtype
        np.testing.assert_array_equal(found[key], x)


@pytest.mark.parametrize("write", [archive, sequence])
def test_tensors_are_windows_of_their_storage(tmp_path, write):
    old = write is sequence
    tensors = {
        "turned": tensor("a", X, shape=(4, 3), strides=(1, 4), old=old),
        "row": tensor("a", X, offset=8, shape=(4,), strides=(1,), old=old),
        "number": tensor("b", X[:1, 2:3].copy(), shape=(), strides=(), old=old),
    }
    level = items({"state_dict": items(tensors), "epoch": value(3)})
    found = read(tmp_path, write(level, {"a": X, "b": X[:1, 2:3].copy()}))
    np.testing.assert_array_equal(found["turned"], X.T)
    np.testing.assert_array_equal(found["row"], X[2])
    assert found["number"] == 2
    assert found["number"].shape == ()
    found["row"][0] = 5  # it is an array of its own
    assert found["turned"][0, 2] == 8


def test_conjugates_and_negatives(tmp_path):
    x = np.complex64([1 + 2j])
    tensors = {flag: tensor("a", x, rest=[{flag: True}]) for flag in ("conj", "neg")}
    found = read(tmp_path, archive(items(tensors), {"a": x}))
    assert found["conj"] == 1 - 2j
    assert found["neg"] == -1 - 2j


def test_parameters_and_ordered_dicts_are_read(tmp_path):
    parameter = call("torch._utils", "_rebuild_parameter", tensor("a", X), value(True), value({}))
    ordered = call("collections", "OrderedDict") + b"(" + value("x") + parameter + b"u"
    found = read(tmp_path, archive(ordered, {"a": X}, byteorder=b"little"))
    np.testing.assert_array_equal(found["x"], X)


SYSTEM = call("os", "system", value("touch made"))


@pytest.mark.parametrize("write", [archive, sequence])
@pytest.mark.parametrize(
    "content",
    [
        SYSTEM,
        items({"x": SYSTEM}),
        call("builtins", "eval", value("open('made', 'w')")),
        call("torch", "load", value("other.pth")),
        call("torch.storage", "_load_from_bytes", value(b"")),
        b"ctorch\nFloatStorage\n" + value({"name": "made"}) + b"b",
        call("torch", "FloatStorage", value(3)),
    ],
)
def test_nothing_in_a_file_is_run(tmp_path, monkeypatch, write, content):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"weights\.pth (cannot be read|contains no state dict)"):
        read(tmp_path, write(content, {}))
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pth"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"nonsense", "cannot be read"),
        (b"", "cannot be read"),
        (archive(b"", {}), "cannot be read"),
        (archive(value([1, 2]), {}), "contains no state dict"),
        (archive(items({"x": value(3)}), {}), "contains no state dict"),
        (archive(items({"x": tensor("a", X)}), {}), "cannot be read"),  # it has no storage
        (archive(items({"x": tensor("a", X)}), {"a": X[:2]}), "another size than it should"),
        (archive(items({"x": tensor("a", X)}), {"a": X}, byteorder=b"big"), "another machine"),
        (sequence(items({"x": tensor("a", X, old=True)}), {"a": X}, little=False), "another mach"),
        (sequence(items({"x": tensor("a", X, old=True)}), {}), "x cannot be read .the numbers"),
        (sequence(items({"x": tensor("a", X, old=True)}), {"a": X})[:-1], "another size"),
        (archive(items({"x": tensor("a", X, offset=1)}), {"a": X}), "larger than its memory"),
        (archive(items({"x": tensor("a", X, offset=-1)}), {"a": X}), "no shape and strides"),
        (archive(items({"x": tensor("a", X, strides=(-4, 1))}), {"a": X}), "no shape and strides"),
        (archive(items({"x": tensor("a", X, shape=(3,))}), {"a": X}), "no shape and strides"),
        (
            archive(items({"x": tensor("a", X, shape=(10**9, 10**9), strides=(0, 0))}), {"a": X}),
            "larger than its memory",
        ),
        (
            archive(items({"x": call("torch._utils", "_rebuild_qtensor", value(1))}), {}),
            r"torch\._utils\._rebuild_qtensor, which is no part of a state dict",
        ),
    ],
)
def test_what_cannot_be_read(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path, content)


def test_any_cut_or_changed_byte_is_an_error_or_other_numbers(tmp_path):
    rng = np.random.default_rng(0)
    whole = sequence(items({"x": tensor("a", X, old=True)}), {"a": X})
    for content in (whole, state_dict({"x": X})):
        for _ in range(40):
            damaged = bytearray(content)
            damaged[rng.integers(len(content))] ^= 1 << rng.integers(8)
            for given in (bytes(damaged), content[: rng.integers(len(content))]):
                with contextlib.suppress(InputError):
                    read(tmp_path, given)


@pytest.mark.parity
@pytest.mark.parametrize("zipped", [True, False])
def test_it_reads_what_torch_writes(tmp_path, monkeypatch, zipped):
    """In a process of its own, because this one hides torch."""
    script = (
        "import sys, torch; torch.manual_seed(0); x = torch.randn(3, 4);"
        "net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3));"
        "state = {**net.state_dict(), 'turned': x.t(), 'part': x[1:, ::2], 'half': x.bfloat16(),"
        "'whole': torch.arange(3), 'yes': x > 0, 'parameter': torch.nn.Parameter(x),"
        "'complex': torch.complex(x, x).conj()};"
        f"torch.save(state, sys.argv[1], _use_new_zipfile_serialization={zipped});"
        "import numpy; numpy.savez(sys.argv[2], **{key: y.detach().float().numpy() if "
        "y.dtype == torch.bfloat16 else y.detach().resolve_conj().numpy() "
        "for key, y in state.items()})"
    )
    file, arrays = tmp_path / "weights.pth", tmp_path / "weights.npz"
    done = subprocess.run(
        [sys.executable, "-c", script, file, arrays], capture_output=True, text=True, check=False
    )
    if "No module named 'torch'" in done.stderr:
        pytest.skip("torch is not installed")
    assert done.returncode == 0, done.stderr
    found, expected = read_state_dict(file), read_state_dict(arrays)
    assert found.keys() == expected.keys()
    for key, x in expected.items():
        assert found[key].dtype == x.dtype
        np.testing.assert_array_equal(found[key], x)
