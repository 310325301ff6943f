"""The benchmark of accelerators runs on a CPU, with tiny networks."""

import argparse
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from jaxvision.core import DetectionBatch, Detections
from tests.marks import long_but

BENCHMARKS = pathlib.Path(__file__).parent.parent / "benchmarks"
PARTS = ("resnet50", "yolov3", "retinanet", "mask_rcnn", "unet", "nms", "resume", "parity")
USUAL = ["--smallest", "--seconds=0.01"]


@pytest.fixture
def accelerator(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import accelerator

    return accelerator


@pytest.fixture
def on_device(accelerator):
    import on_device

    return on_device


def rows_of(accelerator, path, *arguments):
    """What a part adds to a file, by what each row is about; lists of rows."""
    accelerator.main([*USUAL, f"--out={path}", *arguments])
    rows = {}
    for line in path.read_text().splitlines():
        row = json.loads(line)
        assert row["part"] in arguments[0]
        rows.setdefault(row["what"], []).append(row)
    assert "jax " in rows["machine"][0]["text"]
    return rows


@pytest.mark.parametrize(
    "part", long_but(["resnet50", "yolov3", "retinanet", "mask_rcnn", "unet"], (), ["retinanet"])
)
def test_a_training_step_and_a_prediction_are_measured(
    part, accelerator, on_device, tmp_path, monkeypatch
):
    monkeypatch.setitem(on_device._KINDS, "cpu", "gpu-h200")  # of which the peak is known
    rows = rows_of(accelerator, tmp_path / "rows.jsonl", f"--part={part}")
    for way in ("predict", "train"):
        (row,) = rows[way]
        assert row["images_per_s"] > 0
        assert 0 < row["share_of_peak"] < 1
        assert row["program_bytes"] > 2 * 32 * 32
        assert row["batch"] == 2
        assert row["size"] == [32, 32]
    if part in ("resnet50", "unet"):
        for row in rows.get("train, torch", rows.get("torch")):
            assert "error" in row or row["x_torch"] > 0


@pytest.mark.slow
def test_suppression_is_measured_and_compared_with_a_loop(accelerator, tmp_path):
    rows = rows_of(accelerator, tmp_path / "rows.jsonl", "--part=nms")
    assert [(row["images"], row["boxes"]) for row in rows["nms"]] == [(1, 64), (1, 100), (2, 90)]
    for row in rows["nms"]:
        assert row["kept_equal"]
        assert row["ms"] > 0


@pytest.mark.long
def test_a_run_is_killed_and_goes_on(accelerator, tmp_path):
    (row,) = rows_of(accelerator, tmp_path / "rows.jsonl", "--part=resume")["resume"]
    assert row["killed"]
    assert row["equal"]
    assert row["metrics_equal"]
    assert 10 <= row["resumed_after"] < row["steps"]


@pytest.mark.long
def test_a_device_is_compared_with_the_cpu(accelerator, tmp_path):
    rows = rows_of(accelerator, tmp_path / "rows.jsonl", "--part=parity")
    for what in ("logits", "detections"):
        assert [row["precision"] for row in rows[what]] == ["highest", "default"]
        assert all(row["differ"] == 0 for row in rows[what])  # it is the CPU
    assert all(row["matched"] == 1 and row["detections"] > 0 for row in rows["detections"])


def test_detections_are_matched_and_their_distance_is_measured(on_device):
    boxes = np.float32([[0, 0, 10, 10], [20, 20, 40, 40], [50, 50, 60, 60], [0, 0, 0, 0]])
    reference = Detections(
        boxes=boxes[None],
        scores=np.float32([[0.9, 0.8, 0.7, 0.0]]),
        labels=np.int32([[1, 2, 3, 0]]),
        valid=np.array([[True, True, True, False]]),
    )
    found = reference.replace(
        boxes=reference.boxes[:, ::-1] + np.float32([0, 0, 0, 0.25]),
        scores=reference.scores[:, ::-1] - np.float32(0.1),
        labels=np.int32([[0, 4, 2, 1]]),  # one of another class
        valid=reference.valid[:, ::-1],
    )
    how_far = on_device.matched(found, reference)
    assert how_far["detections"] == 3
    assert how_far["matched"] == pytest.approx(2 / 3)
    assert how_far["scores_differ"] == pytest.approx(0.1, rel=1e-5)
    assert how_far["boxes_differ_px"] == pytest.approx(0.25)


def test_the_largest_difference_is_relative_to_the_largest_value_of_an_array(on_device):
    one, other = {"a": np.float32([1, 2]), "b": np.float32([100])}, {}
    other["a"], other["b"] = np.float32([1, 4]), np.float32([101])
    assert on_device.largest_difference(one, other) == 0.5
    assert on_device.largest_difference(other, other) == 0


def test_all_parts_take_less_than_a_quarter_of_an_hour(accelerator):
    assert set(accelerator.SECONDS) == set(accelerator.MEASURES) == set(PARTS)
    assert max(accelerator.SECONDS.values()) <= 180
    assert sum(accelerator.SECONDS.values()) <= 840  # a minute is for the machine's start


def test_a_part_that_fails_or_takes_too_long_does_not_stop_the_others(
    accelerator, tmp_path, monkeypatch
):
    """Each is a process of its own, which ends with all that it started."""
    program = (
        "import subprocess, sys, time; part = sys.argv[1]\n"
        "if 'nms' in part: sys.exit(3)\n"
        "if 'unet' in part: subprocess.run(['sleep', '600'])"
    )
    script = tmp_path / "parts.py"
    script.write_text(program)
    monkeypatch.setattr(accelerator, "__file__", str(script))
    monkeypatch.setattr(accelerator, "SECONDS", {"unet": 1, "nms": 60, "parity": 60})
    out = tmp_path / "rows.jsonl"
    accelerator.run_parts(argparse.Namespace(out=out, limit=None), [])
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["part"], row.get("error")) for row in rows] == [
        ("unet", "it took more than 1 s"),
        ("unet", None),
        ("nms", "exit code 3"),
        ("nms", None),
        ("parity", None),
    ]


@pytest.mark.parity
@pytest.mark.long
@pytest.mark.parametrize("name", ["retinanet_resnet50_fpn", "maskrcnn_resnet50_fpn"])
def test_a_detector_of_torchvision_is_measured(name, on_device):
    pytest.importorskip("torch")
    from tests.models.torchvision_ops import import_detection

    import_detection("faster_rcnn")
    shapes = {"boxes": (2, 9, 4), "labels": (2, 9), "box_mask": (2, 9), "masks": (2, 9, 6, 6)}
    shapes |= {"image": (2, 64, 64, 3), "mask": (2,), "crowd": (2, 9), "difficult": (2, 9)}
    dtypes = {"image": np.uint8, "labels": np.int32, "masks": np.uint8}
    like = {key: np.empty(x, dtypes.get(key, np.float32)) for key, x in shapes.items()}
    batch = on_device.synthetic(DetectionBatch(**like), (64, 96), 5)
    assert batch.image.shape == (2, 64, 96, 3)
    theirs = on_device.torchs(name, batch, classes=5, widths=(), dtype="float32", compiled=False)
    for step in (theirs.training(), theirs.prediction()):
        assert on_device.steps_per_second(step, seconds=0, rounds=1) > 0


@pytest.mark.long
def test_all_parts_run_one_after_the_other(tmp_path):
    command = [sys.executable, BENCHMARKS / "accelerator.py", *USUAL, "--limit=900"]
    done = subprocess.run([*command, f"--out={tmp_path / 'rows'}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "rows").read_text().splitlines()]
    assert [row["part"] for row in rows if row["what"] == "done"] == list(PARTS)
    assert not [row for row in rows if row["what"] == "failed"]
    assert done.stdout.count("\n") == len(rows)
