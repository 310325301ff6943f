"""Features: which maps, what they depend on, batches with gaps, and the files."""

import dataclasses
import pathlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.core import ImageBatch, InputError, Inputs, Task
from jaxvision.data import read_image
from jaxvision.data.transforms.placing import fit_image, with_channels
from jaxvision.features import (
    Features,
    check_comparable,
    check_features_file,
    choose_maps,
    compute_features,
    features_of_maps,
    image_batches,
    images_digest,
    read_features,
    variables_behind_maps,
    write_features,
)
from jaxvision.models import create_model
from jaxvision.predict import write_picture
from tests.models.variables import random_variables

GREY = Inputs((8, 8), channels=1)


@pytest.fixture(scope="module")
def network():
    """A task with a small ResNet for 8x8, and variables."""
    model = create_model("resnet20", num_classes=10, blocks=1, widths=(4, 4, 6), remat=True)

    def forward(variables, batch, *, keys, step, train):
        return model.apply(variables, batch.image, train=train), {}

    task = Task(
        init=None,
        augment=None,
        prepare=lambda example: example.replace(image=example.image / 255),
        forward=forward,
        loss=None,
        metrics=None,
        decode=None,
        kind="classification",
        inputs=GREY,
    )
    return task, random_variables(model, np.zeros((1, 8, 8, 1), np.float32))


def images_of(images):
    """A batch of images alone."""
    return ImageBatch(image=images, mask=np.ones(len(images), bool))


def test_the_usual_maps_or_those_named():
    maps = dict.fromkeys(["c1", "c12", "tokens", "pooled", "logits", "c"])
    assert choose_maps(maps) == ("c1", "c12", "pooled")
    assert choose_maps(iter(maps)) == ("c1", "c12", "pooled")
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
    like = jax.eval_shape(lambda: images_of(jnp.zeros((2, 8, 8, 1), jnp.uint8)))
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


@dataclasses.dataclass(frozen=True)
class Folder:
    """A source of grey images in files, with their numbers as labels."""

    paths: tuple[pathlib.Path, ...]

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return {"image": with_channels(read_image(self.paths[index]), 1), "label": index}

    def where(self, index):
        return str(self.paths[index])


@pytest.fixture
def folder(tmp_path):
    """Five grey images, the second of which is none."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(5):
        paths.append(tmp_path / f"{number}.png")
        write_picture(paths[-1], np.repeat(rng.integers(0, 256, (8, 8, 1)), 3, -1).astype("u1"))
    paths[1].write_bytes(b"no image")
    return Folder(tuple(paths))


@pytest.mark.parametrize("batch_size", [1, 2, 4, 8])
def test_batches_have_one_size_and_leave_out_what_cannot_be_read(folder, batch_size):
    batches = list(image_batches(folder, GREY, batch_size=batch_size))
    assert len(batches) == -(-5 // batch_size)
    found = []
    for records in batches:
        assert records.labels == records.indices
        assert records.files == [folder.where(index) for index in records.indices]
        count = len(records.indices)
        if not count:
            assert records.batch is None
            continue
        batch = records.batch
        assert batch.image.shape == (batch_size, 8, 8, 1)
        assert batch.mask.tolist() == [True] * count + [False] * (batch_size - count)
        assert not batch.image[count:].any()
        assert batch.extent.tolist() == batch.size.tolist() == [[8, 8]] * batch_size
        np.testing.assert_array_equal(batch.placement, [[1, 1, 0, 0]] * batch_size)
        found += zip(records.indices, batch.image, strict=False)
    assert [index for index, _ in found] == [0, 2, 3, 4]
    for index, image in found:
        np.testing.assert_array_equal(image, folder[index]["image"])
    (failed,) = (reason for records in batches for reason in records.failed)
    assert "1.png cannot be read as an image" in failed


def test_images_become_the_networks_input(folder):
    """Resized, letterboxed and with its channels; where they lie is kept."""
    inputs = Inputs((6, 12), resize="letterbox", fill=9)
    (records,) = image_batches(folder, inputs, batch_size=5)
    for row, index in enumerate(records.indices):
        image = np.repeat(folder[index]["image"], 3, axis=2)
        expected, placement = fit_image(image, inputs)
        np.testing.assert_array_equal(records.batch.image[row], expected)
        np.testing.assert_allclose(records.batch.placement[row], placement)
        assert records.batch.extent[row].tolist() == [6, 12]
        assert records.batch.size[row].tolist() == [8, 8]


def test_an_image_that_does_not_fit_is_left_out(folder):
    write_picture(folder.paths[3], np.zeros((9, 8, 3), np.uint8))
    (records,) = image_batches(folder, GREY, batch_size=5)
    assert records.indices == [0, 2, 4]
    assert records.failed[1].startswith(f"{folder.paths[3]}: the image has 8 x 9 pixels instead of")


def test_a_batch_size_below_1_is_refused_at_once(folder):
    with pytest.raises(InputError, match=r"^batch_size is 0: give at least 1$"):
        image_batches(folder, GREY, batch_size=0)


def test_features_are_those_of_each_image_alone(folder, network):
    task, variables = network
    traced = []

    def forward(*args, **how):
        traced.append(how)
        return task.forward(*args, **how)

    batches = image_batches(folder, GREY, batch_size=3)
    counted = dataclasses.replace(task, forward=forward)
    found = compute_features(counted, variables, batches, ["c3", "pooled"])
    assert len(traced) == 1, "compiled once"
    assert list(found.maps) == ["c3", "pooled"]
    assert found.indices.tolist() == found.labels.tolist() == [0, 2, 3, 4]
    assert len(found.failed) == 1
    forward = jax.jit(partial(task.forward, keys=None, step=0, train=False))
    for row, index in enumerate(found.indices):
        batch = task.prepare(images_of(folder[int(index)]["image"][None]))
        outputs, _ = forward(variables, batch)
        np.testing.assert_allclose(found.maps["c3"][row], outputs["c3"][0].mean((0, 1)), rtol=1e-4)
        np.testing.assert_allclose(found.maps["pooled"][row], outputs["pooled"][0], rtol=1e-4)


def test_nothing_to_compute(folder, network):
    batches = image_batches(Folder(folder.paths[1:2]), GREY, batch_size=2)
    with pytest.raises(InputError, match=r"no image could be read: .*1\.png cannot be read"):
        compute_features(*network, batches, ["c3"])
    with pytest.raises(InputError, match=r"no image could be read: there are no images"):
        compute_features(*network, [], ["c3"])


def test_any_record_that_cannot_be_read_is_left_out(folder):
    class Damaged(Folder):
        def __getitem__(self, index):
            if index == 3:
                raise InputError(f"mnist test, record {index} cannot be read")
            return super().__getitem__(index)

    (records,) = image_batches(Damaged(folder.paths), GREY, batch_size=5)
    assert records.indices == [0, 2, 4]
    assert records.failed[1] == "mnist test, record 3 cannot be read"


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(folder, network, wrong):
    def forward(_, batch, **how):
        x = jnp.ones((3, 2))
        return {"c1": x, "pooled": jnp.where(batch.image[:, 0, :1, 0] == marked, wrong, x)}, None

    marked = folder[3]["image"][0, 0, 0]
    task = dataclasses.replace(network[0], prepare=lambda batch: batch, forward=forward)
    with pytest.raises(InputError, match=r"the map 'pooled' is not finite for \S+3\.png: check"):
        compute_features(task, None, image_batches(folder, GREY, batch_size=3), ["c1", "pooled"])


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
    with pytest.raises(
        InputError, match=r"a\.npy is not a file of features: give a name that ends"
    ):
        write_features(tmp_path / "a.npy", features())
    with pytest.raises(InputError, match="there is no file"):
        read_features(tmp_path / "a.npz")
    with pytest.raises(InputError, match="a map with the name 'files' cannot be stored"):
        write_features(tmp_path / "a.npz", features(maps={"files": np.ones((2, 1))}))
    with pytest.raises(InputError, match="a map with the name 'about' cannot be stored"):
        check_features_file(tmp_path / "a.npz", ["c2", "about"])
    for content in (b"", b"nothing", b"PK\x03\x04 and no more"):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(InputError, match=r"a\.npz cannot be read"):
            read_features(tmp_path / "a.npz")
    write_features(tmp_path / "a.npz", features())
    with np.load(tmp_path / "a.npz") as file:
        np.savez_compressed(tmp_path / "a.npz", **file)
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[30 + len("c2.npy") + content[28]] = 0xFF  # the array's first byte: no kind of block
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.npz cannot be read .*decompressing"):
        read_features(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", c2=np.ones(3))
    with pytest.raises(InputError, match="is not a file of features, because it has no 'about'"):
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
        ({"about": {**ABOUT, "variables": "2"}}, "differ in variables"),
        ({"about": {**ABOUT, "flatten": True}}, "differ in flatten"),
        ({"class_names": ("cat", "cow")}, "have different classes, cat, dog ... and cat, cow ..."),
        ({"maps": {"c2": np.ones((2, 3))}}, "only one of the two files of features has pooled"),
    ],
)
def test_features_that_cannot_be_compared(changes, message):
    check_comparable(features(), features(labels=None, class_names=()))
    with pytest.raises(InputError, match=message):
        check_comparable(features(), features(**changes))
