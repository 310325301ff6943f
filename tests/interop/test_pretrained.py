"""Published weights by their names: the table, and their files from a server of this machine."""

import hashlib
import json
import multiprocessing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxvision
from jaxvision.core import InputError, OptionError
from jaxvision.interop import find_published, pretrained, published_weights
from tests.interop.published import serving_weights
from tests.interop.torch_format import archive, call, value

MODEL = "resnet20"  # of which torchvision has none


@pytest.fixture(scope="module")
def network():
    model = jaxvision.create_model(MODEL, num_classes=2)
    init = jax.jit(lambda key: model.init(key, jnp.zeros((1, 32, 32, 3)), train=False))
    return model, init(jax.random.key(0))


@pytest.fixture
def served(tmp_path, monkeypatch, network):
    with serving_weights(monkeypatch, tmp_path / "cache", MODEL, network[1]) as found:
        yield found


def logits_of(found, seed=0):
    images = jnp.asarray(np.random.default_rng(seed).normal(size=(2, 32, 32, 3)), jnp.float32)
    return found[0].apply(found[1], images, train=False)["logits"]


def test_a_network_comes_with_its_weights_inputs_and_classes(served, network, tmp_path):
    server, path = served
    found = jaxvision.load_pretrained(MODEL, "IMAGENET1K_V1")
    assert found.class_names == ("sea", "fire")
    assert found.inputs.shape == (32, 32, 3)
    assert found.inputs.shorter_side == 36
    np.testing.assert_array_equal(logits_of(found), logits_of(network))
    kept = sorted(file.name for file in (tmp_path / "cache").iterdir())
    stem = path[1:].removesuffix(".pth")
    assert kept == [f"{stem}.json", f"{stem}.lock", f"{stem}.safetensors"]
    server.files.clear()
    again = jaxvision.load_pretrained(MODEL)  # without the server
    jax.tree.map(np.testing.assert_array_equal, again.variables, found.variables)
    assert len(server.asked) == 1


def test_a_task_predicts_with_them(served):
    found = jaxvision.load_pretrained(MODEL)
    task = jaxvision.tasks.classification(found.model, found.inputs, class_names=found.class_names)
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    (one,) = jaxvision.predict(task, found.variables, [image])
    assert one.result["label"] in ("sea", "fire")


def test_a_damaged_file_is_refused_and_asked_for_again(served, tmp_path):
    server, path = served
    whole = server.files[path]
    server.files[path] = whole[:5000] + b"?" + whole[5001:]
    with pytest.raises(InputError, match="is not used, because it is damaged, or another file"):
        jaxvision.load_pretrained(MODEL)
    assert not list((tmp_path / "cache").glob("*.pth"))
    server.files[path] = whole
    jaxvision.load_pretrained(MODEL)


def test_a_resumed_file_whose_beginning_is_damaged_is_downloaded_whole(served, tmp_path):
    server, path = served
    (tmp_path / "cache").mkdir()
    stem = path[1:].removesuffix(".pth")
    (tmp_path / "cache" / f"{stem}.part.pth").write_bytes(b"?" * 100)
    jaxvision.load_pretrained(MODEL)
    assert [wanted for _, wanted in server.asked] == ["bytes=100-", None]


def test_the_converted_file_is_made_again_if_it_is_damaged(served, tmp_path):
    server, _ = served
    expected = jaxvision.load_pretrained(MODEL).variables
    (file,) = (tmp_path / "cache").glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-1])
    found = jaxvision.load_pretrained(MODEL).variables
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert len(server.asked) == 2


def test_other_weights_than_the_first_time_are_refused(served, tmp_path):
    jaxvision.load_pretrained(MODEL)
    (file,) = (tmp_path / "cache").glob("*.safetensors")
    (record,) = (tmp_path / "cache").glob("*.json")
    file.unlink()
    about = json.loads(record.read_text())
    record.write_text(json.dumps({**about, "sha256": about["sha256"][:-1] + "x"}))
    with pytest.raises(InputError, match=r"another file than the first time.*remove .*json"):
        jaxvision.load_pretrained(MODEL)
    record.write_text("?")
    with pytest.raises(InputError, match="json is damaged: remove it"):
        jaxvision.load_pretrained(MODEL)


def test_without_a_connection_a_file_can_be_put_there(served, tmp_path):
    server, path = served
    content = server.files.pop(path)
    with pytest.raises(InputError, match=f"answers 404.*put the file at {tmp_path}/cache{path}; J"):
        jaxvision.load_pretrained(MODEL)
    place = tmp_path / "cache" / path[1:]
    place.write_bytes(content)
    jaxvision.load_pretrained(MODEL)
    assert place.is_file()
    place.write_bytes(b"?")
    jaxvision.load_pretrained(MODEL)  # it was converted


def test_nothing_in_a_file_is_run(served, monkeypatch, tmp_path):
    server, _ = served
    content = archive(call("os", "system", value("touch made")), {})
    digits = hashlib.sha256(content).hexdigest()[:8]
    (row,) = pretrained._table()["weights"]
    row["file"] = f"x-{digits}.pth"
    published_weights.cache_clear()
    server.files[f"/{row['file']}"] = content
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        jaxvision.load_pretrained(MODEL)
    assert [file.name for file in tmp_path.iterdir()] == ["cache"]


def _load(table, barrier):
    pretrained._table = lambda: table
    barrier.wait()
    jaxvision.load_pretrained(MODEL)


def test_two_processes_download_once(served):
    server, _ = served
    server.failures = ["slow"]
    context = multiprocessing.get_context("spawn")
    arguments = (pretrained._table(), context.Barrier(2))
    both = [context.Process(target=_load, args=arguments) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
        assert process.exitcode == 0
    assert len(server.asked) == 1


def test_a_mirror_of_another_kind_is_refused(served, monkeypatch):
    monkeypatch.setenv("JAXVISION_MIRROR", "ftp://example.org/weights")
    with pytest.raises(InputError, match="is not an address that weights are downloaded from"):
        jaxvision.load_pretrained(MODEL)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("DEFAULT", "IMAGENET1K_V2"),
        ("IMAGENET1K_V1", "IMAGENET1K_V1"),
        ("ResNet50_Weights.IMAGENET1K_V1", "IMAGENET1K_V1"),
        ("ResNet50_Weights.DEFAULT", "IMAGENET1K_V2"),
    ],
)
def test_names(name, found):
    assert find_published("resnet50", name).full_name == f"resnet50:{found}"


@pytest.mark.parametrize(
    ("model", "name", "message"),
    [
        ("resnet51", "DEFAULT", "resnet51.*did you mean"),
        ("resnet20", "DEFAULT", "no weights of resnet20 are published by name.*models --weights"),
        ("resnet50", "IMAGENET1K_V3", "resnet50 has no weights 'IMAGENET1K_V3': did you mean"),
        ("resnet50", "ResNet18_Weights.DEFAULT", "resnet50 has no weights 'ResNet18_Weights"),
    ],
)
def test_names_that_are_not_there(model, name, message):
    with pytest.raises((InputError, OptionError), match=message):
        find_published(model, name)


def test_the_table():
    rows = published_weights()
    assert len(rows) == 134
    assert len({row.full_name for row in rows}) == 134
    for model in {row.model for row in rows}:
        assert sum(row.default for row in rows if row.model == model) == 1
    for row in rows:
        assert row.inputs.shape[2] == 3
        assert row.metrics or not row.class_names
        assert pretrained._is_whole(row, row.file.rpartition("-")[2].removesuffix(".pth"))
