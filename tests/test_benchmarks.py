"""The benchmarks run with small settings, and print the machine on which they ran."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from jaxvision.interop import to_state_dict
from jaxvision.models import create_model
from tests.marks import long_but
from tests.models.variables import random_variables

BENCHMARKS = pathlib.Path(__file__).parent.parent / "benchmarks"
# Script -> arguments that make it short.
SMALLEST = {
    "backbones.py": ["--models", "resnet18", "--size=64", "--batch=8", "--rounds=1"],
    "coco_ap.py": ["--images=8", "--detections=9", "--classes=2", "--segm-images=2", "--rounds=1"],
    "conv.py": ["--only=pooled", "--rounds=1"],
    "detect.py": ["--models=yolov2_tiny", "--size=64", "--batches=1", "--pairs=9", "--rounds=1"],
    "engine_overhead.py": ["--batch-size=8", "--steps=1", "--pairs=1"],
    "input.py": ["--images=4", "--batch=2", "--batches=1", "--warmup=1", "--rounds=1"],
    "mask_targets.py": ["--cells", "9", "--sides", "32", "--count=2", "--height=64", "--width=96"],
    "memory.py": ["--height=64", "--width=96", "--objects=2", "--max-boxes=3", "--steps=1"],
    "nms.py": ["--sizes", "64", "--batches", "1", "--rounds=1"],
    "predict.py": ["--images=3", "--size", "40", "30", "--rounds=1", "--kinds", "resnet20"],
    "roi.py": ["--boxes=20", "--channels=8", "--height=64", "--width=96", "--rounds=1"],
    "segment.py": ["--size=16", "--batch=1", "--widths", "4", "6", "--rounds=1"],
    "word_tree.py": ["--nodes=99", "--grid=2", "--rounds=1"],
}
SHARED = {"on_device.py", "resident.py", "timing.py", "versus_torch.py"}
# tests/test_accelerator.py runs it.
OF_ACCELERATORS = {"accelerator.py"}
OF_WEIGHTS = {"transfer.py"}
OF_PHOTOGRAPHS = {"shapes.py"}
# Trains detectors on the embedded scenes, for half an hour and more.
OF_DETECTORS = {"class_imbalance.py", "rcnn_family.py", "yolov2_ladder.py"}
# Of those on images of CIFAR-10.
EXPERIMENTS = {
    "batch_norm.py": ["--model=plain20", "--steps=2"],
    "degradation.py": ["--depths", "20", "32", "--steps=2"],
    "gradients.py": ["--depths", "20"],
}


def run(script, *arguments, code=0):
    """What a script prints; its messages if it is to fail."""
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *arguments],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


def test_every_benchmark_is_in_the_list():
    found = {path.name for path in BENCHMARKS.glob("*.py")} - SHARED
    assert found == {*SMALLEST, *OF_ACCELERATORS, *OF_WEIGHTS, *OF_PHOTOGRAPHS}


def test_every_experiment_is_in_the_list():
    found = {path.name for path in (BENCHMARKS / "claims").glob("*.py")}
    assert found == {*EXPERIMENTS, *OF_DETECTORS, "training.py"}


# The others differ in what they measure alone; each starts a process and compiles for long.
QUICKEST = ("nms.py",)


@pytest.mark.long
@pytest.mark.parametrize("script", EXPERIMENTS)
def test_an_experiment_prints_its_table_and_draws(script, tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (32, 32, 32, 3), np.uint8)
    np.savez(tmp_path / "data.npz", train_x=images, train_y=rng.integers(0, 10, 32))
    arguments = [f"--data={tmp_path / 'data.npz'}", f"--picture={tmp_path / 'picture.png'}"]
    arguments += ["--widths", "2", "2", "2", "--batch=8", "--seeds=1", *EXPERIMENTS[script]]
    lines = run(f"claims/{script}", *arguments).splitlines()
    assert len([line for line in lines if line.startswith("| ")]) > 3
    assert "jax " in lines[-1]
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.width > 500


@pytest.mark.long
def test_the_family_of_rcnns_is_compared(tmp_path):
    pytest.importorskip("cv2.ximgproc")
    arguments = [f"--proposals={tmp_path}", f"--picture={tmp_path / 'picture.png'}"]
    arguments += ["--steps=2", "--train-images=12", "--test-images=5", "--images=4", "--rounds=2"]
    lines = run("claims/rcnn_family.py", *arguments).splitlines()
    names = [line.split(" | ")[0] for line in lines if line.startswith("| ")]
    assert names == ["| detector", "| R-CNN", "| Fast R-CNN", "| Faster R-CNN"]
    assert "jax " in lines[-1]
    assert sorted(x.name for x in tmp_path.glob("*.npz")) == [
        "scenes_test_5.npz",
        "scenes_train_12.npz",
    ]
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.width > 500


@pytest.mark.long
def test_the_ladder_of_yolov2_goes_on_where_it_was_stopped(tmp_path):
    usual = ["--workdir", str(tmp_path), "--steps=2", "--pretrain-steps=4", "--seeds=1"]
    usual += ["--train-images=12", "--test-images=5"]
    script = "claims/yolov2_ladder.py"

    def lines_of(*rungs, more=()):
        return run(script, *usual, *more, "--rungs", *rungs).splitlines()

    def rows_of(lines):
        return [line for line in lines if line.startswith("| ")][1:]

    first = lines_of("YOLO", "batch norm")
    assert first[0].startswith("trained 2 of 2")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}
    assert len(before) == 2
    picture = tmp_path / "picture.png"
    rungs = "YOLO", "batch norm", "high-resolution detector"
    lines = lines_of(*rungs, more=[f"--picture={picture}"])
    assert lines[0].startswith("trained 1 of 3")
    rows = rows_of(lines)
    names = ["| YOLO", "| batch norm", "| multi-scale", "| high-resolution detector"]
    assert [row.split(" | ")[0] for row in rows] == names
    assert rows[:2] == rows_of(first)
    assert [row.split(" | ")[-2:] for row in rows[:2]] == [["63.4", " |"], ["65.8", "+2.4 |"]]
    assert "jax " in lines[-1]
    with Image.open(picture) as drawn:
        assert drawn.width > 500
    again = lines_of(*rungs)
    assert again[0].startswith("trained 0 of 3")
    assert rows_of(again) == rows
    assert {path: path.stat().st_mtime_ns for path in before} == before
    message = run(script, *usual, "--steps=3", "--rungs=YOLO", code=1)
    assert f"{tmp_path / 'YOLO_seed0.json'} is of other settings" in message


@pytest.mark.parametrize("script", long_but(SMALLEST, (), QUICKEST))
def test_it_runs(script):
    if script not in QUICKEST:
        assert "usage:" in run(script, "--help")
    assert "jax " in run(script, *SMALLEST[script]).splitlines()[-1]


@pytest.mark.parity
@pytest.mark.long
def test_detectors_are_compared_with_torchvisions():
    names = ["ssdlite320_mobilenet_v3_large", "maskrcnn_resnet50_fpn"]
    options = ["--torchvision", "--size=160", "--rounds=1", "--models", *names]
    header, *rows, last = run("detect.py", *options).splitlines()
    assert header.split()[-1] == "RoIAlign"
    assert [row.split()[0] for row in rows[:2]] == names
    assert [row.endswith("%") for row in rows[:2]] == [False, True]
    assert "jax " in last


@pytest.mark.long
def test_images_of_mixed_shapes_are_compared(real_data):
    lines = run("shapes.py", f"--data={real_data / 'bccd'}", "--steps=2", "--side=64").splitlines()
    assert len([line for line in lines if line.startswith(("| letterbox", "| fit"))]) == 8
    assert "jax " in lines[-1]


@pytest.mark.long
def test_training_with_and_without_weights_is_compared(tmp_path):
    model = create_model("resnet20", num_classes=10)
    variables = random_variables(model, np.zeros((1, 8, 8, 1), np.float32))
    state = {f"module.{key}": value for key, value in to_state_dict(variables).items()}
    np.savez(tmp_path / "weights.npz", **state)
    small = ["--config.steps=2", "--config.batch_size=8", "--config.data.image_size=8"]
    frozen = ["--config.freeze=('conv1',)", "--config.head_warmup.steps=1"]
    weights = [f"--init-from={tmp_path / 'weights.npz'}", "--seeds=1"]
    small.append("--config.init_prefix=module.")
    head = "--config.head_warmup.only=('fc',)"
    table = run("transfer.py", "--config=digits_resnet20", *weights, "--", *small, *frozen, head)
    lines = table.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:4]] == ["| pretrained", "| random"]
    assert "jax " in lines[-1]
