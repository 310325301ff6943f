"""The shipped configs on real data, as far as a CPU goes."""

import csv
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]


def command(script, *arguments):
    """The closing JSON line of train.py or eval.py, in a process of its own, as users start it."""
    done = subprocess.run(
        [sys.executable, script, *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def losses_of(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return np.array([json.loads(line)["loss"] for line in lines])


@pytest.mark.long
def test_digits_lenet5_reaches_its_accuracy(tmp_path, record_property):
    found = []
    for seed in range(4):
        workdir = tmp_path / str(seed)
        result = command("train.py", f"--config.seed={seed}", f"--workdir={workdir}")
        assert result["steps"] == 1200
        assert command("eval.py", f"--workdir={workdir}")["accuracy"] == result["accuracy"]
        found.append(result["accuracy"])
    record_property("accuracy of seeds 0 to 3", " ".join(f"{x:.4f}" for x in found))
    assert found[0] >= 0.9916
    assert np.mean(found) >= 0.9944


FIGURES = {
    "scenes_yolov2_tiny": {"AP50": 0.92},
    "scenes_yolov4_tiny": {"AP50": 0.90},
    "scenes_faster_rcnn": {"AP50": 0.88},
    "scenes_mask_rcnn": {"AP50": 0.85, "mask_AP50": 0.75},
    "scenes_keypoint_rcnn": {"keypoint_AP": 0.50},
    "scenes_retinanet": {"AP50": 0.90},
    "scenes_fcos": {"AP50": 0.90},
    "scenes_ssd": {"AP50": 0.85},
    "scenes_localizer": {"mean_iou": 0.75, "accuracy": 0.95},
    "scenes_unet": {"mean_iou": 0.70},
    "photos_dncnn": {"psnr": 31.0},
}


@pytest.mark.long
@pytest.mark.parametrize("name", FIGURES)
def test_a_config_reaches_its_figure(name, tmp_path, record_property):
    result = command("train.py", f"--config={name}", f"--workdir={tmp_path}")
    for metric in FIGURES[name]:
        record_property(metric, round(result[metric], 4))
    for metric, least in FIGURES[name].items():
        assert result[metric] >= least, metric


@pytest.mark.long
def test_yolo9000_finds_classes_without_boxes_in_training(tmp_path, record_property):
    command("train.py", "--config=scenes_yolo9000", f"--workdir={tmp_path}")
    with (tmp_path / "classes_test.csv").open() as file:
        figures = {row["class"]: float(row["AP50"]) for row in csv.DictReader(file)}
    for name, classes in {"with boxes": "0123456", "without boxes": "789"}.items():
        figures[name] = float(np.mean([figures[each] for each in classes]))
        record_property(f"AP50 of classes {name}", round(figures[name], 4))
    assert figures["without boxes"] >= 0.5


@pytest.mark.long
def test_retinanet_overfits_photographs_of_blood(tmp_path, real_data, record_property):
    folder = tmp_path / "bccd"
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for name in ("JPEGImages", "Annotations"):
        (folder / name).symlink_to(real_data / "bccd" / name)
    names = (real_data / "bccd" / "ImageSets" / "Main" / "trainval.txt").read_text().split()
    (lists / "trainval.txt").write_text("\n".join(names[:16]))
    (lists / "test.txt").write_text("\n".join(names[:16]))
    result = command(
        "train.py",
        "--config=bccd_retinanet",
        f"--workdir={tmp_path / 'run'}",
        f"--config.data.dir={folder}",
        "--config.data.image_size=256",
        "--config.detector.sizes=(14, 30, 62)",
        "--config.steps=400",
        "--config.eval_every=400",
        "--config.batch_size=4",
        *(f"--config.augment.{name}" for name in ("flip=0", "hue=0", "saturation=1", "value=1")),
    )
    record_property("AP50", round(result["AP50"], 4))
    assert result["AP50"] > 0.95


@pytest.mark.long
def test_fashion_mnist_learns(tmp_path, real_data, record_property):
    result = command(
        "train.py",
        "--config=fashion_mnist_resnet20",
        f"--workdir={tmp_path}",
        f"--config.data.dir={real_data / 'fashion_mnist'}",
        "--config.steps=200",
        "--config.eval_every=200",
        "--config.batch_size=32",
        "--config.data.validation_fraction=0.02",
    )
    record_property("accuracy", result["accuracy"])
    losses = losses_of(tmp_path)
    assert len(losses) == 200
    assert losses[-20:].mean() < 0.6 * losses[:20].mean()
    assert result["accuracy"] > 0.7
