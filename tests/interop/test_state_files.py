"""Files of state dicts: what is written comes back; what cannot be read is named."""

import sys

import numpy as np
import pytest
import safetensors.numpy

from jaxvision.core import InputError
from jaxvision.interop import read_state_dict, write_state_dict

STATE = {
    "fc.weight": np.arange(6, dtype=np.float32).reshape(2, 3).T,  # not contiguous
    "bn.num_batches_tracked": np.array(3),
}


def header(fields):
    text = f"{{{fields}}}".encode()
    return len(text).to_bytes(8, "little") + text


def check_equal(found, expected):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key].dtype == value.dtype
        np.testing.assert_array_equal(found[key], value)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_what_is_written_comes_back(tmp_path, suffix):
    file = tmp_path / f"weights{suffix}"
    write_state_dict(file, {"old": np.zeros(2)})
    write_state_dict(file, STATE)
    check_equal(read_state_dict(str(file)), STATE)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_a_safetensors_file_may_hold_bfloat16(tmp_path):
    file, half = tmp_path / "weights.safetensors", np.arange(4).astype("bfloat16")
    safetensors.numpy.save_file({"x": half}, file)
    check_equal(read_state_dict(file), {"x": half})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("weights.h5", b"", r"weights.h5 is not a file of weights: they end in \.safetensors"),
        ("gone.npz", None, "there is no file .*gone.npz"),
        ("cut.npz", b"PK\x03\x04", "cut.npz cannot be read .*save it again"),
        ("text.npz", b"hello", "text.npz cannot be read"),
        ("empty.npz", b"", "empty.npz cannot be read"),
        ("cut.safetensors", b"12", "cut.safetensors cannot be read"),
        ("long.safetensors", b"\xff" * 8 + b"{}", "its header states a length of 18446744073709"),
        ("twice.safetensors", header('"x": {}, "x": {}'), "has the key 'x' twice"),
        ("f8.safetensors", header('"x": {"dtype": "F8_E5M2"}'), "x has the dtype F8_E5M2, which"),
        ("deep.safetensors", header('"x": ' + "[" * 10**5), "nested too deeply"),
    ],
)
def test_what_cannot_be_read(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_state_dict(tmp_path / name)


def test_torchs_files_are_written_by_torch_alone(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match=r"weights\.pth needs torch.*or write a \.safetensors"):
        write_state_dict(tmp_path / "weights.pth", STATE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parity
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("level", [None, "state_dict", "model"])
def test_torchs_files_come_back(tmp_path, zipped, level):
    torch = pytest.importorskip("torch")
    file = tmp_path / "weights.pt"
    content = {key: torch.from_numpy(np.array(value)) for key, value in STATE.items()}
    content["half"] = torch.ones(3, dtype=torch.bfloat16)
    if level is not None:
        content = {level: content, "epoch": 3}
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    check_equal(read_state_dict(file), {**STATE, "half": np.ones(3, np.float32)})
    write_state_dict(file, STATE)
    check_equal(read_state_dict(file), STATE)


@pytest.mark.parity
def test_a_trained_networks_file_of_torch(real_data):
    pytest.importorskip("torch")
    found = read_state_dict(real_data / "resnet20_cifar10" / "resnet20.th")
    check_equal(found, read_state_dict(real_data / "resnet20_cifar10" / "resnet20.npz"))


@pytest.mark.parity
def test_torchs_files_that_are_no_state_dicts(tmp_path):
    torch = pytest.importorskip("torch")
    file = tmp_path / "weights.pth"
    torch.save(torch.nn.Linear(2, 2), file)
    with pytest.raises(InputError, match=r"cannot be read .*torch\.save\(model\.state_dict\(\)"):
        read_state_dict(file)
    torch.save([1, 2], file)
    with pytest.raises(InputError, match="contains no state dict"):
        read_state_dict(file)
    file.write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"weights\.pth cannot be read"):
        read_state_dict(file)


@pytest.mark.parity
def test_tensors_of_every_kind_are_read_right_or_refused(tmp_path):
    torch = pytest.importorskip("torch")
    file, ones = tmp_path / "weights.pth", torch.ones(3)
    for tensor in (torch.nn.Parameter(ones), ones.to(torch.float8_e4m3fn), ones.to(torch.bfloat16)):
        torch.save({"x": tensor}, file)
        check_equal(read_state_dict(file), {"x": np.ones(3, np.float32)})
    torch.save({"x": torch.full((3,), 1j).conj()}, file)
    check_equal(read_state_dict(file), {"x": np.full(3, -1j, np.complex64)})
    for content, message in [
        ({3: ones}, "contains no state dict"),
        ({"x": torch.eye(3).to_sparse()}, "x cannot be read .it is sparse"),
        ({"x": torch.ones(3, device="meta")}, "x cannot be read"),
    ]:
        torch.save(content, file)
        with pytest.raises(InputError, match=message):
            read_state_dict(file)
