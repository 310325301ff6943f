"""Features: which maps, what they depend on, batches with gaps, and the files."""

import dataclasses
import pathlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.cli.config import default_config
from jaxvision.core import InputError
from jaxvision.data.sources.image_folders import ImageFolder
from jaxvision.predict import (
    Features,
    Neighbor,
    check_comparable,
    check_features_file,
    choose_maps,
    compute_features,
    draw_neighbors,
    features_of_maps,
    image_batches,
    images_digest,
    read_features,
    variables_behind_maps,
    write_features,
    write_picture,
)
from jaxvision.predict.neighbors import OTHER, SAME
from jaxvision.predict.predictor import Images
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
    found = variables_behind_maps(task, variables, like)
    names = {
        jax.tree_util.keystr(path[1:], simple=True, separator="/")
        for path, _ in jax.tree.leaves_with_path(variables)
    }
    first = {name for name in names if name.startswith(("conv1/", "bn1/"))}
    second = {name for name in names if name.startswith("layer1_")}
    head = {"fc/kernel", "fc/bias"}
    assert first
    assert second
    assert set(found["c1"]) == first
    assert set(found["c2"]) == first | second
    assert set(found["pooled"]) == names - head
    assert set(found["logits"]) == names


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
        assert batch.files == [folder.where(index) for index in batch.indices]
        assert not batch.images[len(batch.indices) :].any()
        found += zip(batch.indices, batch.images, strict=False)
    assert [index for index, _ in found] == [0, 2, 3, 4]
    for index, image in found:
        np.testing.assert_array_equal(image, folder[index]["image"])
    (failed,) = (reason for batch in batches for reason in batch.failed)
    assert "1.png cannot be read as an image" in failed


def test_features_are_those_of_each_image_alone(folder, network):
    task, variables = network
    traced = []

    def forward(*args, **how):
        traced.append(how)
        return task.forward(*args, **how)

    batches = image_batches(folder, as_it_is, batch_size=3)
    counted = dataclasses.replace(task, forward=forward)
    found = compute_features(counted, variables, batches, ["c3", "pooled"])
    assert len(traced) == 1, "compiled once"
    assert list(found.maps) == ["c3", "pooled"]
    assert found.indices.tolist() == found.labels.tolist() == [0, 2, 3, 4]
    assert len(found.failed) == 1
    forward = jax.jit(partial(task.forward, keys=None, step=0, train=False))
    for row, index in enumerate(found.indices):
        batch = task.prepare(Images(folder[int(index)]["image"]))
        outputs, _ = forward(variables, Images(batch.image[None]))
        np.testing.assert_allclose(found.maps["c3"][row], outputs["c3"][0].mean((0, 1)), rtol=1e-4)
        np.testing.assert_allclose(found.maps["pooled"][row], outputs["pooled"][0], rtol=1e-4)


def test_nothing_to_compute(folder, network):
    broken = dataclasses.replace(folder, paths=folder.paths[1:2])
    batches = image_batches(broken, as_it_is, batch_size=2)
    with pytest.raises(InputError, match=r"no image could be read: .*1\.png cannot be read"):
        compute_features(*network, batches, ["c3"])


def test_any_record_that_cannot_be_read_is_left_out(folder):
    class Damaged(ImageFolder):
        def __getitem__(self, index):
            if index == 3:
                raise InputError(f"mnist test, record {index} cannot be read")
            return super().__getitem__(index)

    (batch,) = image_batches(Damaged(**vars(folder)), as_it_is, batch_size=5)
    assert batch.indices == [0, 2, 4]
    assert batch.failed[1] == "mnist test, record 3 cannot be read"


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(folder, network, wrong):
    def forward(_, batch, **how):
        x = jnp.ones((3, 2))
        return {"c1": x, "pooled": jnp.where(batch.image[:, 0, :1, 0] == marked, wrong, x)}, None

    marked = folder[3]["image"][0, 0, 0]
    task = dataclasses.replace(network[0], prepare=lambda batch: batch, forward=forward)
    with pytest.raises(InputError, match=r"the map 'pooled' is not finite for \S+3\.png: look at"):
        compute_features(
            task, None, image_batches(folder, as_it_is, batch_size=3), ["c1", "pooled"]
        )


def test_the_digest_changes_with_names_and_files(folder):
    names = [*map(str, folder.paths), "mnist test, record 1"]
    digest = images_digest(names)
    assert images_digest(iter(names)) == digest
    assert images_digest(names[::-1]) != digest
    folder.paths[0].write_bytes(folder.paths[0].read_bytes() + b"0")
    assert images_digest(names) != digest


ABOUT = {"model": {"name": "a"}, "variables": "1", "preparation": {}, "flatten": False}


def features(**changes):
    usual = Features(
        maps={"c2": np.ones((2, 3), "f4"), "pooled": np.zeros((2, 1), "f4")},
        indices=np.array([0, 2]),
        labels=np.array([1, 0]),
        files=("a.png", "ä c.png"),
        failed=("b.png cannot be read",),
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
    with pytest.raises(InputError, match="a map called 'about' cannot be kept"):
        check_features_file(tmp_path / "a.npz", ["c2", "about"])
    for content in (b"", b"nothing", b"PK\x03\x04 and no more"):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(InputError, match=r"a\.npz cannot be read"):
            read_features(tmp_path / "a.npz")
    np.savez_compressed(tmp_path / "a.npz", c2=np.ones(3))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[30 + len("c2.npy") + content[28]] = 0xFF  # the array's first byte: no kind of block
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.npz cannot be read .*decompressing"):
        read_features(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", c2=np.ones(3))
    with pytest.raises(InputError, match="holds no features, it lacks 'about'"):
        read_features(tmp_path / "a.npz")
    write_features(tmp_path / "a.npz", features())
    with pytest.raises(InputError, match="has no map 'c3': did you mean 'c2'"):
        read_features(tmp_path / "a.npz", maps=["c3"])
    broken = np.float32([[1, 2, 3], [4, np.nan, 6]])
    write_features(tmp_path / "a.npz", features(maps={"c2": broken, "pooled": np.ones((2, 1))}))
    with pytest.raises(InputError, match=r"the map 'c2' is not finite for ä c\.png"):
        read_features(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"about": {**ABOUT, "variables": "2"}}, "are of another variables"),
        ({"about": {**ABOUT, "flatten": True}}, "are of another flatten"),
        ({"class_names": ("cat", "cow")}, "have other classes, cat, dog ... and cat, cow ..."),
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
