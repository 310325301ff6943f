"""Segmentation, landmarks and restoration by the command line: what a run leaves and predicts."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from jaxvision.cli import main as cli
from jaxvision.cli.config import default_config
from jaxvision.cli.report import overlap_table
from jaxvision.data.sources.mask_folders import read_mask

CONFIG = """
from jaxvision.cli.config import default_config


def get_config():
    config = default_config({task!r})
    config.steps = config.eval_every = 3
    config.batch_size = 4
    config.data.source = "folder"
    config.data.dir = {data!r}
    config.data.test_split = "train"
    config.data.validation_fraction = 0.0
    {more}
    return config
"""
MORE = {
    "segmentation": """
    config.data.image_size = 16
    config.data.class_names = ("nothing", "cat", "dog")
    config.model.widths = (4, 8)""",
    "landmarks": """
    config.data.image_size = 16
    config.model.widths = (4, 8)
    config.augment.flip = 0.5
    config.augment.swap = (1, 0)""",
    "denoising": """
    config.data.image_size, config.data.patches = 8, 4
    config.data.tile, config.data.margin = 16, 5
    config.model.name, config.model.depth, config.model.width = "dncnn_s", 3, 4
    config.degradation.sigma = (25.0, 25.0)""",
    "srcnn": """
    config.data.image_size, config.data.patches = 9, 4
    config.data.tile, config.data.margin, config.data.color = 21, 6, "luminance"
    config.model.name, config.model.widths = "srcnn_915", (4, 4)
    config.degradation.name, config.degradation.factor = "downscale_upscale", 3""",
    "espcn": """
    config.data.image_size, config.data.patches = 9, 4
    config.data.tile, config.data.margin, config.data.color = 21, 6, "luminance"
    config.model.name, config.model.widths = "espcn", (4, 4)
    config.degradation.name, config.degradation.factor = "downscale", 3""",
}
MORE["whole"] = MORE["segmentation"] + '\n    config.data.resize = "letterbox"'
SIZES = {"a": (16, 16), "b": (16, 16)}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder that all three tasks can read, and beside it other images, of other sizes."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for part in ("images/train", "masks/train", "landmarks", "train", "new"):
        (folder / part).mkdir(parents=True)
    lines = ["image,left_x,left_y,right_x,right_y"]
    for name, size in SIZES.items():
        image = Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8))
        image.save(folder / "images" / "train" / f"{name}.png")
        image.save(folder / "train" / f"{name}.png")
        mask = Image.fromarray(rng.integers(0, 3, size, np.uint8))
        mask.save(folder / "masks" / "train" / f"{name}.png")
        lines.append(f"{name}.png,3,4,12,5")
    (folder / "landmarks" / "train.csv").write_text("\n".join(lines) + "\n")
    for name, size in {"wide": (11, 40), "high": (23, 9)}.items():
        image = Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8))
        image.save(folder / "new" / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """Makes a run: its folder and the result that it printed."""
    runs = {}

    def train(kind, capsys):
        if kind not in runs:
            workdir = tmp_path_factory.mktemp(kind)
            task = {"landmarks": "landmarks", "segmentation": "segmentation"}.get(
                kind, "segmentation" if kind == "whole" else "restoration"
            )
            config = workdir / "mine.py"
            config.write_text(CONFIG.format(task=task, data=str(data), more=MORE[kind]))
            arguments = [f"--config={config}", f"--workdir={workdir / 'run'}"]
            assert cli.run("train", ["train", *arguments]) == 0
            runs[kind] = workdir / "run", json.loads(capsys.readouterr().out)
        return runs[kind]

    return train


def predict(command, workdir, data):
    code, out, err = command("predict", f"--workdir={workdir}", "--out=found", data / "new")
    assert code == 0, err
    result = json.loads(pathlib.Path("found/predictions.json").read_text())
    assert result["failed"] == []
    assert [(x["width"], x["height"]) for x in result["images"]] == [(9, 23), (40, 11)]
    assert json.loads(out.splitlines()[-1]) == {"images": 2, "failed": 0, "out": "found"}
    return result["images"]


def size_of(path):
    with Image.open(path) as image:
        return image.size


@pytest.mark.parametrize("kind", ["segmentation", pytest.param("whole", marks=pytest.mark.slow)])
def test_segmentation_gives_pictures_and_labels(kind, data, trained, command, capsys):
    workdir, result = trained(kind, capsys)
    assert {"mean_iou", "dice", "pixel_accuracy"} <= result.keys()
    assert size_of(workdir / "predictions_test.png")[0] > 1200
    code, _, err = command("eval", f"--workdir={workdir}")
    assert code == 0
    table = [line.split() for line in err.splitlines()]
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


@pytest.mark.slow
def test_landmarks_give_points(data, trained, command, capsys):
    workdir, result = trained("landmarks", capsys)
    assert 0 <= result["pixel_error"] < 23
    assert size_of(workdir / "predictions_test.png")[0] > 1200
    for entry in predict(command, workdir, data):
        assert [found["label"] for found in entry["landmarks"]] == ["left", "right"]
        for found in entry["landmarks"]:
            assert len(found["point"]) == 2
            assert 0 < found["score"] <= 1
        assert size_of(entry["picture"]) == (entry["width"], entry["height"])


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "factor"), [("denoising", 1), ("srcnn", 3), ("espcn", 3)])
def test_restoration_gives_photographs(kind, factor, data, trained, command, capsys):
    workdir, result = trained(kind, capsys)
    assert {"psnr", "ssim", "psnr_before", "ssim_before"} <= result.keys()
    assert size_of(workdir / "predictions_test.png")[0] > 900
    for entry in predict(command, workdir, data):
        width, height = factor * entry["width"], factor * entry["height"]
        assert size_of(entry["picture"]) == (width, height)
        assert (entry["restored_width"], entry["restored_height"]) == (width, height)
        beside = size_of(f"found/beside/{entry['file'].rpartition('/')[2]}")
        assert beside[0] >= 2 * width


def test_no_label_takes_the_place_of_an_image(data, trained, command, capsys, tmp_path):
    workdir, _ = trained("segmentation", capsys)
    (tmp_path / "found" / "labels").mkdir(parents=True)
    mine = tmp_path / "found" / "labels" / "mine.png"
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(mine)
    code, _, err = command("predict", f"--workdir={workdir}", "--out=found", mine)
    assert code == 2
    assert "mine.png is one of the images: give another folder as --out" in err


def test_a_classifier_predicts_nothing_for_files_yet(data, command):
    pathlib.Path("run").mkdir()
    pathlib.Path("run/config.json").write_text(json.dumps(default_config().to_dict()))
    code, _, err = command("predict", "--workdir=run", "--out=found", data / "new")
    assert code == 2
    assert "the run in run is for classification: predict takes detection, landmarks, " in err


def test_a_class_that_is_nowhere_has_no_overlap():
    collected = (np.float32([[3, 0, 0], [1, 0, 1]]), np.float32([[4, 0, 2], [4, 0, 2]]))
    assert [line.split() for line in overlap_table(collected, ("a", "b", "c")).splitlines()] == [
        ["class", "IoU"],
        ["a", "0.500"],
        ["b", "-"],
        ["c", "0.250"],
    ]
