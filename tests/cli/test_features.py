"""`jaxvision features`, and what `probe` and `neighbors` make of its files."""

import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from jaxvision.cli import features
from jaxvision.cli.features import images_of
from jaxvision.core import InputError
from jaxvision.features import Features, fit_linear_probe, read_features, write_features
from jaxvision.interop import read_state_dict, to_state_dict, write_state_dict
from jaxvision.models import create_model
from jaxvision.ops import nearest_neighbors
from jaxvision.predict import write_picture
from tests.cli.conftest import result_of
from tests.data.folders import write_colors
from tests.models.variables import random_variables

TINY = pathlib.Path(__file__).parents[1] / "tiny_config.py"


@pytest.fixture(scope="module")
def variables():
    return random_variables(create_model("lenet5"), np.zeros((1, 32, 32, 1), "f4"))


@pytest.fixture(scope="module")
def weights(variables, tmp_path_factory):
    """A file of LeNet-5."""
    path = tmp_path_factory.mktemp("weights") / "lenet5.npz"
    write_state_dict(path, to_state_dict(variables))
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_colors(tmp_path_factory.mktemp("data"), size=32)


def by_name(weights):
    normal = ["--config.data.mean=(0.5,)", "--config.data.std=(0.5,)"]
    return ["--model=lenet5", f"--weights={weights}", *normal, "--batch_size=4"]


def by_config(weights, data):
    return [
        "--config=digits_lenet5",
        f"--config.init_from={weights}",
        "--config.data.source=folder",
        f"--config.data.dir={data}",
        "--config.data.num_classes=2",
        "--config.data.validation_fraction=0.0",
        "--batch_size=4",
    ]


def test_features_of_files_equal_the_networks_maps(command, weights, variables, data, tmp_path):
    pattern = str(data / "test" / "*" / "*.png")
    result, err = result_of(command, "features", *by_name(weights), "--out=a.npz", pattern)
    assert "images of 32 x 32 pixels, cut out of the middle after the shorter side was" in err
    assert "mean (0.5,), std (0.5,)" in err
    maps = {"c1": 6, "c3": 16, "pooled": 84}
    assert result == {
        "images": 6, "failed": 0, "maps": maps, "computed": True, "out": "a.npz"
    }  # fmt: skip
    found = read_features(tmp_path / "a.npz")
    assert found.labels is None
    assert [pathlib.Path(file).name for file in found.files] == ["0.png", "1.png", "2.png"] * 2
    images = [np.asarray(Image.open(file).convert("RGB"), "f8") for file in found.files]
    grey = np.rint(np.stack(images) @ [0.299, 0.587, 0.114])[..., None]
    run = jax.jit(lambda x: create_model("lenet5").apply(variables, x, train=False))
    expected = run((grey / 255 - 0.5).astype("f4") / 0.5)
    for name, rows in found.maps.items():
        x = np.asarray(expected[name], "f8")
        x = x.mean(axis=(1, 2)) if x.ndim == 4 else x
        np.testing.assert_allclose(rows, x, atol=1e-5)


@pytest.mark.slow
def test_the_same_is_not_computed_again(command, weights, data, tmp_path):
    path = tmp_path / "one.png"
    path.write_bytes((data / "test" / "red" / "0.png").read_bytes())
    usual = ["features", *by_name(weights), "--maps=c1", "--out=a.npz", path]
    result, _ = result_of(command, *usual)
    before = (tmp_path / "a.npz").stat().st_mtime_ns
    again, err = result_of(command, *usual, "--batch_size=1")
    assert again == {**result, "computed": False}
    assert "a.npz has these features already" in err
    assert (tmp_path / "a.npz").stat().st_mtime_ns == before
    for change, keys in (
        (["--flatten"], "flatten"),
        (["--maps=c3"], "maps"),
        (["--config.data.resize=stretch"], "preparation"),
        ([data / "test" / "red" / "1.png"], "images"),
    ):
        code, _, err = command(*usual, *change)
        assert code == 2
        assert f"a.npz is there already, with other features ({keys} differ)" in err
    path.write_bytes((data / "test" / "red" / "1.png").read_bytes() + b"\0")
    code, _, err = command(*usual)
    assert code == 2
    assert "(images differ)" in err
    result, _ = result_of(command, *usual, "--flatten", "--overwrite")
    assert result["maps"] == {"c1": 6 * 28 * 28}


def test_what_is_beside_the_images_changes_nothing(command, weights, data, tmp_path, monkeypatch):
    shutil.copytree(data, tmp_path / "data")
    usual = ["features", *by_config(weights, "data"), "--config.data.channels=1", "--split=test"]
    usual += ["--maps=c1", f"--out={tmp_path}/data/test.npz"]
    result, _ = result_of(command, *usual)
    assert result["computed"]
    (tmp_path / "data" / "notes.txt").write_text("many")
    result, _ = result_of(command, *usual)
    assert not result["computed"]
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    result, _ = result_of(command, *usual, "--config.data.dir=../data")
    assert not result["computed"]
    (tmp_path / "data" / "test" / "red" / "0.png").touch()
    code, _, err = command(*usual, "--config.data.dir=../data")
    assert code == 2
    assert "(images differ)" in err


def test_an_archive_of_images_that_changed_is_others(command, weights, tmp_path):
    images, labels = np.zeros((3, 32, 32), np.uint8), np.array([0, 1, 1])
    usual = ["features", *by_config(weights, "a.npz"), "--config.data.source=npz", "--maps=c1"]
    for size in (3, 2):  # of the part that is not asked for
        arrays = {"train_x": images[:size], "train_y": labels[:size]}
        np.savez(tmp_path / "a.npz", **arrays, test_x=images, test_y=labels)
        code, _, err = command(*usual, "--split=test", "--out=b.npz")
        assert code == (0 if size == 3 else 2), err
    assert "(images differ)" in err


def test_a_map_that_cannot_be_kept_is_refused_before_it_is_computed(
    command, weights, data, monkeypatch
):
    monkeypatch.setattr(features, "variables_behind_maps", lambda *_: {"files": ()})
    monkeypatch.setattr(features, "compute_features", None)
    image = data / "test" / "red" / "0.png"
    code, _, err = command("features", *by_name(weights), "--maps=files", "--out=a.npz", image)
    assert code == 2
    assert "a map with the name 'files' cannot be stored: leave it out" in err


def test_normalisation_that_is_not_published_is_asked_for(command, weights):
    usual = ["features", "--model=lenet5", f"--weights={weights}", "--out=b.npz", "c.png"]
    pathlib.Path("c.png").touch()
    code, _, err = command(*usual, "--config.data.mean=(0.5,)")
    assert code == 2
    assert "the std by which images for lenet5 are normalised is not published: give that" in err


def test_features_that_are_not_finite_are_refused(command, weights, data):
    state_dict = read_state_dict(weights)
    state_dict["c1.bias"] = np.where(np.arange(6) == 1, np.nan, state_dict["c1.bias"])
    write_state_dict("bad.npz", state_dict)
    image = data / "test" / "red" / "0.png"
    code, out, err = command("features", *by_name("bad.npz"), "--out=a.npz", image)
    assert (code, out) == (2, "")
    assert f"is not finite for {image}: check the weights, and the mean and standard" in err
    assert not pathlib.Path("a.npz").exists()


def test_a_bad_image_is_left_out_and_told_each_time(command, weights, data, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    good = data / "test" / "red" / "0.png"
    usual = ["features", *by_name(weights), "--maps=c1", "--out=a.npz", "broken.png", good]
    for computed in (True, False):
        code, out, err = command(*usual)
        assert code == 1
        assert "failed: " in err
        assert "broken.png cannot be read as an image" in err
        result = json.loads(out)
        assert (result["images"], result["failed"]) == (1, 1)
        assert result["computed"] is computed
    found = read_features(tmp_path / "a.npz")
    assert found.files == (str(good),)
    np.testing.assert_array_equal(images_of(found)(0), np.asarray(Image.open(good)))


@pytest.mark.slow
def test_features_of_a_split_have_labels_and_lead_to_pictures(command, weights, data, tmp_path):
    folder = data  # a classifier of two classes is not in the weights, and not needed
    usual = [*by_config(weights, folder), "--config.data.channels=1"]
    for split, count in (("train", 20), ("test", 6)):
        arguments = [*usual, f"--split={split}", f"--out={split}.npz"]
        result, err = result_of(command, "features", *arguments)
        assert result["images"] == count
        assert "; new: " in err
    test = read_features(tmp_path / "test.npz")
    assert test.class_names == ("blue", "red")
    assert test.labels.tolist() == [0, 0, 0, 1, 1, 1]
    read = images_of(test)
    for number, file in enumerate(test.files):
        grey = np.asarray(Image.open(file).convert("RGB")) @ [0.299, 0.587, 0.114]
        expected = np.repeat(np.rint(grey)[..., None], 3, axis=-1)
        np.testing.assert_allclose(read(number), expected, atol=1)
    code, _, err = command("features", *usual, "--split=test", "--out=b.npz", "--maps=logits")
    assert code == 2
    assert "the map 'logits' depends on arrays that the weights lack, or have in another" in err
    assert not (tmp_path / "b.npz").exists()

    result, err = result_of(
        command, "neighbors", "--index=train.npz", "--queries=test.npz", "--out=near", "--k=3",
        "--most=2",
    )  # fmt: skip
    assert result["accuracy"] == 1, "red is brighter than blue"
    assert result["pictures"] == ["near/neighbors_1.png"]
    with Image.open(tmp_path / "near" / "neighbors_1.png") as picture:
        assert 4 * 128 < picture.width < 4 * 170
        assert 2 * 128 < picture.height < 2 * 180

    result, err = result_of(
        command, "probe", "--train=train.npz", "--test=test.npz", "--out=probes", "--maps=c1"
    )
    assert result["maps"].keys() == {"c1"}
    assert result["maps"]["c1"]["test_accuracy"] == 1
    assert json.loads((tmp_path / "probes" / "probe.json").read_text()) == result
    assert "by the accuracy on a held-out fifth" in err
    table = [line.split() for line in err.splitlines()]
    assert ["map", "dimensions", "l2", "train", "test"] in table
    assert ["c1", "6", "1", "1.0000", "1.0000"] in table
    with Image.open(tmp_path / "probes" / "probe.png") as picture:
        assert picture.width > 500


ABOUT = {"model": {}, "preparation": {}, "variables": "1", "flatten": False}


def made(path, seed, count=40, **changes):
    """A file of random features, whose images are files beside it."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    x = rng.normal(size=(count, 3)) + labels[:, None]
    files = []
    for number in range(count):
        files.append(str(path.with_name(f"{path.stem}_{number}.png")))
        write_picture(files[-1], rng.integers(0, 256, (4, 6, 3)).astype("u1"))
    given = Features(
        maps={"c2": x.astype("f4"), "pooled": x[:, ::-1].astype("f4")},
        indices=np.arange(count),
        labels=labels,
        files=tuple(files),
        failed=(),
        class_names=("cat", "dog"),
        origin={},
        about=ABOUT,
    )
    write_features(path, given._replace(**changes))
    return given


def test_pictures_of_other_images_by_now_are_not_drawn(command, weights, data, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(data, folder)
    result_of(command, "features", *by_config(weights, folder), "--config.data.channels=1",
              "--split=test", "--out=test.npz")  # fmt: skip
    (folder / "test" / "blue" / "0.png").rename(folder / "test" / "blue" / "9.png")
    code, _, err = command(
        "neighbors", "--index=test.npz", "--queries=test.npz", "--k=3", "--out=near"
    )
    assert code == 2
    assert "the data has changed since the features of" in err
    assert "0.png were computed: compute them again" in err
    (folder / "test" / "blue" / "9.png").unlink()
    (folder / "test" / "red" / "2.png").unlink()
    with pytest.raises(InputError, match="the data has changed"):
        images_of(read_features(tmp_path / "test.npz"))(5)


@pytest.mark.slow
def test_a_probe_is_that_of_the_library(command, tmp_path):
    train, test = (made(tmp_path / f"{name}.npz", seed) for seed, name in enumerate(["a", "b"]))
    given = ["--train=a.npz", "--test=b.npz", "--out=out", "--l2=0.1"]
    result, err = result_of(command, "probe", *given)
    assert "held-out" not in err
    assert result["maps"].keys() == {"c2", "pooled"}
    for name, found in result["maps"].items():
        probe = fit_linear_probe(train.maps[name], train.labels, 2, l2=0.1)
        assert found["l2"] == 0.1
        assert found["train_accuracy"] == probe.accuracy(train.maps[name], train.labels)
        assert found["test_accuracy"] == probe.accuracy(test.maps[name], test.labels)
    assert (result["classes"], result["train"], result["test"]) == (2, 40, 40)


def test_no_image_is_its_own_neighbor(command, tmp_path):
    given = made(tmp_path / "a.npz", 0, count=12)
    same = given.maps["c2"].copy()
    same[3:8] = same[3]  # more equal ones than neighbors are asked for
    write_features(tmp_path / "a.npz", given._replace(maps={"c2": same}))
    result, err = result_of(
        command, "neighbors", "--index=a.npz", f"--queries={tmp_path}/a.npz", "--out=out",
        "--map=c2", "--k=3", "--metric=l2", "--most=10",
    )  # fmt: skip
    assert result["pictures"] == ["out/neighbors_1.png", "out/neighbors_2.png"]
    assert "pages of pictures in out: 2" in err
    found = json.loads((tmp_path / "out" / "neighbors.json").read_text())["found"]
    assert len(found) == 12
    right = 0
    for number, row in enumerate(found):
        assert row["file"] == given.files[number]
        others = [given.files.index(neighbor["file"]) for neighbor in row["neighbors"]]
        distances, expected = nearest_neighbors(
            same[[number]], np.delete(same, number, axis=0), k=3, metric="l2"
        )
        expected = [other + (other >= number) for other in expected[0].tolist()]
        assert others == expected
        np.testing.assert_allclose(
            [neighbor["distance"] for neighbor in row["neighbors"]], distances[0], atol=1e-5
        )
        labels = [row["label"]] + [neighbor["label"] for neighbor in row["neighbors"]]
        assert labels == [("cat", "dog")[given.labels[i]] for i in [number, *others]]
        right += labels[1:].count(labels[0]) >= 2
    assert result["accuracy"] == right / 12


def test_neighbors_without_labels_or_pictures(command, tmp_path):
    gone = {"config": {"task": "classification", "data": {"source": "folder"}}, "split": "test"}
    for name in "ab":
        made(tmp_path / f"{name}.npz", 0, count=4, labels=None, class_names=(), origin=gone)
    usual = ["neighbors", "--index=a.npz", "--queries=b.npz", "--out=out", "--k=2"]
    result, _ = result_of(command, *usual, "--most=0")
    assert "accuracy" not in result
    assert result["pictures"] == []
    first = json.loads((tmp_path / "out" / "neighbors.json").read_text())["found"][0]
    assert first.keys() == {"file", "neighbors"}
    assert first["neighbors"][0]["distance"] < 1e-6
    for name in "ab":
        made(tmp_path / f"{name}.npz", 0, count=4, labels=None, class_names=())
    result, _ = result_of(command, *usual, "--most=1")
    assert len(result["pictures"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["features", "a.png", "--out=a.npz"], "give either --workdir=DIR, or --model=NAME or"),
        (["features", "--model=lenet5", "--workdir=a", "a.png", "--out=a.npz"], "give either --wo"),
        (["features", "--model=lenet5"], "give images: either files, folders or patterns, or --sp"),
        (
            ["features", "--model=resnet18", "--weights=a", "--split=test", "--out=a.npz"],
            "--model says nothing of data: give --data=FOLDER",
        ),
        (["features", "--model=lenet5", "a.png", "--out=a.npz"], "no --weights"),
        (
            ["features", "--workdir=a", "--prefix=b", "a.png", "--out=a.npz"],
            "--prefix goes with --model or --config: leave it out",
        ),
        (["features", "--workdir=a", "a.png"], "no --out"),
        (
            ["features", "--workdir=a", "a.png", "--out=a.png"],
            "a.png is not a file of features: give a name that ends in .npz",
        ),
        (["features", "--workdir=a", "a.png", "--out=a.npz"], "no run in a"),
        (
            ["features", "--config=digits_lenet5", "--split=test", "--out=a.npz"],
            "no --weights",
        ),
        (["probe"], "no --train"),
        (["probe", "--train=a.npz", "--test=a.npz", "--out=o"], "there is no file a.npz"),
        (["probe", "--train=n.npz", "--test=a.npz", "--out=o"], "n.npz has no labels"),
        (["probe", "--train=m.npz", "--test=m.npz", "--out=o", "--l2=0"], "--l2 is 0.0"),
        (
            ["probe", "--train=m.npz", "--test=o.npz", "--out=o"],
            "the two files of features differ in variables: compute both",
        ),
        (["probe", "--train=m.npz", "--test=i.npz", "--out=o"], "the map 'c2' is not finite for /"),
        (["neighbors"], "no --index"),
        (
            ["neighbors", "--index=i.npz", "--queries=m.npz", "--out=o", "--metric=l2"],
            "i_0.png: check the weights",
        ),
        (["neighbors", "--index=m.npz", "--queries=m.npz", "--out=o", "--map=c3"], "no map 'c3'"),
        (["neighbors", "--index=m.npz", "--queries=m.npz", "--out=o", "--k=6"], "--k is 6: give"),
        (
            ["neighbors", "--index=m.npz", "--queries=o.npz", "--out=o"],
            "the two files of features differ in variables: compute both",
        ),
    ],
)
def test_what_is_refused(command, tmp_path, arguments, message):
    if any("m.npz" in x or "n.npz" in x for x in arguments):
        made(tmp_path / "m.npz", 0, count=6)
        bad = np.full((6, 3), np.nan, "f4")
        made(tmp_path / "i.npz", 0, count=6, maps={"c2": bad, "pooled": bad})
        made(tmp_path / "n.npz", 0, count=6, labels=None, class_names=())
        made(tmp_path / "o.npz", 0, count=6, about={**ABOUT, "variables": "2"})
    code, out, err = command(*arguments)
    assert code == 2
    assert out == ""
    assert message in err
    assert not (tmp_path / "o").exists()


@pytest.mark.long
def test_features_of_a_run(command, digits, tmp_path):
    short = ["--config.steps=2", "--config.eval_every=2", f"--config.data.dir={digits}"]
    result_of(command, "train", f"--config={TINY}", *short, "--workdir=run")
    usual = ["features", "--workdir=run"]
    result, err = result_of(command, *usual, "--split=test", "--out=test.npz")
    assert "the checkpoint of step 2" in err
    assert result["images"] == 359
    assert result["maps"] == {"c1": 4, "c2": 4, "pooled": 4}
    found = read_features(tmp_path / "test.npz")
    write_picture(tmp_path / "a.png", images_of(found)(7))
    result_of(command, *usual, "--out=one.npz", "a.png")
    one = read_features(tmp_path / "one.npz")
    for name, rows in one.maps.items():
        np.testing.assert_allclose(rows[0], found.maps[name][7], rtol=1e-4, atol=1e-5)


@pytest.mark.long
def test_trained_resnet20_is_linear_at_its_end(command, real_data, tmp_path):
    """A probe of `pooled` does as its own head, 915 of 1,000; the earlier the map, the worse."""
    weights = real_data / "resnet20_cifar10" / "resnet20.npz"
    assert any(key.startswith("module.") for key in read_state_dict(weights))
    usual = [
        "features",
        "--config=tfds_cifar10",
        "--config.data.source=npz",
        f"--config.data.dir={real_data / 'cifar10_sample' / 'cifar10_sample.npz'}",
        "--config.data.validation_fraction=0.0",
        "--config.data.mean=(0.485,0.456,0.406)",
        "--config.data.std=(0.229,0.224,0.225)",
        f"--config.init_from={weights}",
        "--config.init_prefix=module.",
    ]
    for split, count in (("train", 4000), ("test", 1000)):
        result, _ = result_of(command, *usual, f"--split={split}", f"--out={split}.npz")
        assert result["images"] == count
    result, _ = result_of(command, "probe", "--train=train.npz", "--test=test.npz", "--out=probes")
    accuracy = {name: probe["test_accuracy"] for name, probe in result["maps"].items()}
    assert abs(accuracy["pooled"] - 0.915) <= 0.01
    assert accuracy["c1"] < accuracy["c2"] < accuracy["c3"] < accuracy["c4"] == accuracy["pooled"]
    assert all(probe["converged"] for probe in result["maps"].values())
    near = ["--index=train.npz", "--queries=test.npz", "--out=near"]
    result, _ = result_of(command, "neighbors", *near)
    assert result["accuracy"] > 0.9
