"""Features: which maps, what they depend on, batches with gaps, and the files."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.cli.config import default_config
from jaxvision.core import InputError
from jaxvision.data.image_folders import ImageFolder
from jaxvision.predict import (
    Features,
    Neighbor,
    check_comparable,
    choose_maps,
    compute_features,
    describe_maps,
    draw_neighbors,
    features_of_maps,
    features_of_task,
    image_batches,
    images_digest,
    read_features,
    write_features,
    write_picture,
)
from jaxvision.predict.neighbors import OTHER, SAME
from jaxvision.tasks import TASKS
from tests.models.variables import random_values


@pytest.fixture(scope="module")
def network():
    """A task with a small ResNet for 8x8, and variables."""
    config = default_config()
    config.model.update({"name": "resnet20", "blocks": 1, "widths": (4, 4, 6), "remat": True})
    config.data.image_size = 8
    task = TASKS["classification"](config)
    return task, random_values(jax.eval_shape(task.init, jax.random.key(0)))


def test_the_usual_maps_or_those_named():
    maps = dict.fromkeys(["c1", "c12", "tokens", "pooled", "logits", "c"])
    assert choose_maps(maps) == ("c1", "c12", "pooled")
    assert choose_maps(maps, ["logits", "c1", "logits"]) == ("logits", "c1")
    with pytest.raises(InputError, match="gives no map 'c3': did you mean "):
        choose_maps(maps, ["c1", "c3"])
    with pytest.raises(InputError, match="name the maps to take: the network gives logits"):
        choose_maps({"logits": 0})


def test_places_are_averaged_or_kept():
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype("f4")
    maps = {"places": x, "tokens": x[:, 0], "vector": jnp.asarray(x[:, 0, 0], jnp.bfloat16)}
    mean = features_of_maps(maps, list(maps))
    np.testing.assert_allclose(mean["places"], x.astype("f8").mean(axis=(1, 2)), atol=1e-6)
    np.testing.assert_allclose(mean["tokens"], x[:, 0].astype("f8").mean(axis=1), atol=1e-6)
    assert mean["vector"].dtype == jnp.float32
    flat = features_of_maps(maps, ["places", "tokens"], flatten=True)
    np.testing.assert_array_equal(flat["places"], x.reshape(2, 60))
    np.testing.assert_array_equal(flat["tokens"], x[:, 0].reshape(2, 20))


def test_a_map_depends_on_what_changes_it(network):
    task, variables = network
    like = jax.ShapeDtypeStruct((2, 8, 8, 1), np.uint8)
    found = describe_maps(task, variables, like)
    assert found["c3"].shape == (2, 4, 4, 4)
    assert found["logits"].shape == (2, 10)
    names = {
        jax.tree_util.keystr(path[1:], simple=True, separator="/")
        for path, _ in jax.tree.leaves_with_path(variables)
    }
    first = {name for name in names if name.startswith(("conv1/", "bn1/"))}
    second = {name for name in names if name.startswith("layer1_")}
    head = {"fc/kernel", "fc/bias"}
    assert first
    assert second
    assert set(found["c1"].behind) == first
    assert set(found["c2"].behind) == first | second
    assert set(found["pooled"].behind) == names - head
    assert set(found["logits"].behind) == names


@pytest.fixture
def folder(tmp_path):
    """Five grey images, the second of which is none."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(5):
        paths.append(tmp_path / f"{number}.png")
        write_picture(paths[-1], np.repeat(rng.integers(0, 256, (8, 8, 1)), 3, -1).astype("u1"))
    paths[1].write_bytes(b"no image")
    return ImageFolder(tuple(paths), np.arange(5), ("a", "b", "c", "d", "e"), grey=True)


def as_it_is(record, where):
    assert pathlib.Path(where).exists()
    return record["image"]


@pytest.mark.parametrize("batch_size", [1, 2, 4, 8])
def test_batches_have_one_size_and_leave_out_what_cannot_be_read(folder, batch_size):
    batches = list(image_batches(folder, as_it_is, batch_size=batch_size))
    assert len(batches) == -(-5 // batch_size)
    found = []
    for batch in batches:
        assert len(batch.images) == (batch_size if batch.indices else 0)
        assert batch.labels == batch.indices
        assert not batch.images[len(batch.indices) :].any()
        found += zip(batch.indices, batch.images, strict=False)
    assert [index for index, _ in found] == [0, 2, 3, 4]
    for index, image in found:
        np.testing.assert_array_equal(image, folder[index]["image"])
    (failed,) = (batch.failed for batch in batches if batch.failed)
    assert list(failed) == [1]
    assert "1.png cannot be read as an image" in failed[1]


def test_features_are_those_of_each_image_alone(folder, network):
    task, variables = network
    run = features_of_task(task, ["c3", "pooled"])
    found = compute_features(run, variables, image_batches(folder, as_it_is, batch_size=3))
    assert found.indices.tolist() == found.labels.tolist() == [0, 2, 3, 4]
    assert len(found.failed) == 1
    for row, index in enumerate(found.indices):
        batch = task.prepare(_Image(folder[int(index)]["image"]))
        outputs, _ = task.forward(
            variables, _Image(batch.image[None]), keys=None, step=0, train=False
        )
        np.testing.assert_allclose(found.maps["c3"][row], outputs["c3"][0].mean((0, 1)), rtol=1e-4)
        np.testing.assert_allclose(found.maps["pooled"][row], outputs["pooled"][0], rtol=1e-4)
    assert run._cache_size() == 1, "compiled once"


@dataclasses.dataclass
class _Image:
    image: np.ndarray

    def replace(self, image):
        return _Image(image)


def test_nothing_to_compute(folder, network):
    broken = dataclasses.replace(folder, paths=folder.paths[1:2])
    run = features_of_task(network[0], ["c3"])
    with pytest.raises(InputError, match=r"no image could be read: .*1\.png cannot be read"):
        compute_features(run, network[1], image_batches(broken, as_it_is, batch_size=2))


def test_the_digest_changes_with_names_and_files(folder, tmp_path):
    digest = images_digest(folder)
    assert images_digest(folder) == digest
    assert images_digest(dataclasses.replace(folder, paths=folder.paths[::-1])) != digest
    (tmp_path / "more").write_text("a")
    wider = images_digest(folder, [tmp_path / "more"])
    (tmp_path / "more").write_text("ab")
    assert len({digest, wider, images_digest(folder, [tmp_path / "more"])}) == 3
    folder.paths[0].write_bytes(folder.paths[0].read_bytes() + b"0")
    assert images_digest(folder) != digest


ABOUT = {"model": {"name": "a"}, "variables": "1", "preparation": {}, "flatten": False}


def features(**changes):
    usual = Features(
        maps={"c2": np.ones((2, 3), "f4"), "pooled": np.zeros((2, 1), "f4")},
        indices=np.array([0, 2]),
        labels=np.array([1, 0]),
        failed=("b.png cannot be read",),
        files=("a.png", "ä c.png"),
        class_names=("cat", "dog"),
        origin={"split": "test"},
        about=ABOUT,
    )
    return usual._replace(**changes)


@pytest.mark.parametrize("given", [features(), features(labels=None, class_names=(), failed=())])
def test_a_file_and_back(tmp_path, given):
    write_features(tmp_path / "new" / "a.npz", given)
    found = read_features(tmp_path / "new" / "a.npz")
    jax.tree.map(np.testing.assert_array_equal, found[:3], given[:3])
    assert found[3:] == given[3:]
    assert list(read_features(tmp_path / "new" / "a.npz", maps=["pooled"]).maps) == ["pooled"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.npz"]


def test_files_that_are_none(tmp_path):
    with pytest.raises(InputError, match=r"a\.npy is no file of features: give a name that ends"):
        write_features(tmp_path / "a.npy", features())
    with pytest.raises(InputError, match="there is no file"):
        read_features(tmp_path / "a.npz")
    with pytest.raises(InputError, match="a map called 'files' cannot be kept"):
        write_features(tmp_path / "a.npz", features(maps={"files": np.ones((2, 1))}))
    for content in (b"", b"nothing", b"PK\x03\x04 and no more"):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(InputError, match=r"a\.npz cannot be read"):
            read_features(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", c2=np.ones(3))
    with pytest.raises(InputError, match="holds no features, it lacks 'about'"):
        read_features(tmp_path / "a.npz")
    write_features(tmp_path / "a.npz", features())
    with pytest.raises(InputError, match="has no map 'c3': did you mean 'c2'"):
        read_features(tmp_path / "a.npz", maps=["c3"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"about": {**ABOUT, "variables": "2"}}, "are of another variables"),
        ({"about": {**ABOUT, "flatten": True}}, "are of another flatten"),
        ({"class_names": ("cat", "cow")}, "have other classes, cat, dog and cat, cow"),
        ({"maps": {"c2": np.ones((2, 3))}}, "only one of the two files of features has pooled"),
    ],
)
def test_features_that_cannot_be_compared(changes, message):
    check_comparable(features(), features(labels=None, class_names=()))
    with pytest.raises(InputError, match=message):
        check_comparable(features(), features(**changes))


def test_rows_of_neighbors():
    white = np.full((20, 10, 3), 255, np.uint8)
    row = [Neighbor(white, "query"), Neighbor(white, "a", True), Neighbor(white, "b", False)]
    sheet = draw_neighbors([row, row])
    colors = [(sheet == np.uint8(color)).all(axis=-1).any(axis=0) for color in (SAME, OTHER)]
    same, other = (np.flatnonzero(columns) for columns in colors)
    assert 130 < same[0] < same[-1] < other[0]
    assert same[-1] - same[0] == other[-1] - other[0]
    for rows in ([], [[]], [row, row[:2]]):
        with pytest.raises(InputError, match="give rows of one length"):
            draw_neighbors(rows)
