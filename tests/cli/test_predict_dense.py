"""Segmentation, landmarks and restoration by the command line: what a run leaves and predicts."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from jaxvision.cli.kinds.segmentation import overlap_table
from jaxvision.data import VideoFrames, read_mask
from jaxvision.predict import VideoWriter
from tests.cli.conftest import result_of
from tests.marks import long_but


def predict(command, workdir, data):
    code, out, err = command("predict", f"--workdir={workdir}", "--out=found", data / "new")
    assert code == 0, err
    result = json.loads(pathlib.Path("found/predictions.json").read_text())
    assert result["failed"] == []
    assert [(x["width"], x["height"]) for x in result["images"]] == [(9, 23), (40, 11)]
    assert json.loads(out.splitlines()[-1]) == {"images": 2, "failed": 0, "out": "found"}
    return result["images"]


def of_run(run):
    return run.folder, run.data, run.result


def size_of(path):
    with Image.open(path) as image:
        return image.size


@pytest.mark.parametrize("kind", long_but(["segmentation", "whole"], (), ["segmentation"]))
def test_segmentation_gives_pictures_and_labels(kind, trained, evaluated, command):
    workdir, data, result = of_run(trained(kind))
    assert {"mean_iou", "dice", "pixel_accuracy"} <= result.keys()
    assert size_of(workdir / "predictions_test.png")[0] > 1200
    table = [line.split() for line in evaluated(kind)[1].splitlines()]
    assert [row[0] for row in table[table.index(["class", "IoU"]) + 1 :][:3]] == [
        "nothing",
        "cat",
        "dog",
    ]
    for entry in predict(command, workdir, data):
        labels = read_mask(f"found/labels/{entry['file'].rpartition('/')[2]}")
        assert labels.shape == (entry["height"], entry["width"])
        for number, name in enumerate(("nothing", "cat", "dog")):
            assert entry["shares"][name] == pytest.approx((labels == number).mean(), abs=1e-5)
        width, height = size_of(entry["picture"])
        assert width >= entry["width"]
        assert height >= entry["height"]
    pytest.importorskip("av")
    with VideoWriter("film.mp4", 5) as writer:
        for value in (0, 200):
            writer.write(np.full((20, 30, 3), value, np.uint8))
    result_of(command, "predict", f"--workdir={workdir}", "--out=found", "film.mp4")
    assert [x.shape for x in VideoFrames("found/film.mp4")] == [(20, 30, 3)] * 2


@pytest.mark.slow
def test_landmarks_give_points(trained, command):
    workdir, data, result = of_run(trained("landmarks"))
    assert 0 <= result["pixel_error"] < 23
    assert size_of(workdir / "predictions_test.png")[0] > 1200
    for entry in predict(command, workdir, data):
        assert [found["label"] for found in entry["landmarks"]] == ["left", "right"]
        for found in entry["landmarks"]:
            assert len(found["point"]) == 2
            assert 0 < found["score"] <= 1
        assert size_of(entry["picture"]) == (entry["width"], entry["height"])


@pytest.mark.parametrize(
    ("kind", "factor"),
    long_but([("denoising", 1), ("srcnn", 3), ("espcn", 3)], (), [("denoising", 1)]),
)
def test_restoration_gives_photographs(kind, factor, trained, command):
    workdir, data, result = of_run(trained(kind))
    assert {"psnr", "ssim", "psnr_before", "ssim_before"} <= result.keys()
    assert size_of(workdir / "predictions_test.png")[0] > 900
    for entry in predict(command, workdir, data):
        width, height = factor * entry["width"], factor * entry["height"]
        assert size_of(entry["picture"]) == (width, height)
        assert (entry["restored_width"], entry["restored_height"]) == (width, height)
        beside = size_of(f"found/beside/{entry['file'].rpartition('/')[2]}")
        assert beside[0] >= 2 * width


@pytest.mark.slow
def test_no_label_takes_the_place_of_an_image(trained, command, tmp_path):
    workdir = trained("segmentation").folder
    (tmp_path / "found" / "labels").mkdir(parents=True)
    mine = tmp_path / "found" / "labels" / "mine.png"
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(mine)
    code, _, err = command("predict", f"--workdir={workdir}", "--out=found", mine)
    assert code == 2
    assert "mine.png is one of the images: give another folder as --out" in err


def test_classification_gives_a_class_and_probabilities(trained, command):
    workdir, data, _ = of_run(trained("colors"))
    image = data / "test" / "red" / "0.png"
    result, _ = result_of(command, "predict", f"--workdir={workdir}", "--out=found", image)
    assert result == {"images": 1, "failed": 0, "out": "found"}
    (entry,) = json.loads(pathlib.Path("found/predictions.json").read_text())["images"]
    assert entry["probabilities"].keys() == {"blue", "red"}
    assert list(entry["probabilities"].values()) == sorted(entry["probabilities"].values())[::-1]
    assert entry["label"] == next(iter(entry["probabilities"]))
    assert size_of(entry["picture"])[0] >= 32


def test_a_class_that_is_nowhere_has_no_overlap():
    tables = {"class_iou": np.array([0.5, np.nan, 0.25])}
    assert [line.split() for line in overlap_table(tables, ("a", "b", "c")).splitlines()] == [
        ["class", "IoU"],
        ["a", "0.500"],
        ["b", "-"],
        ["c", "0.250"],
    ]
