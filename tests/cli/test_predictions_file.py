"""The detections that `eval` writes, and those of any tool that it measures."""

import contextlib
import io
import json
import pathlib

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from jaxvision.core import Inputs
from jaxvision.data import (
    CocoFolder,
    EvalLoader,
    ToDetection,
    VocFolder,
    YoloFolder,
    read_coco_results,
)
from jaxvision.engine import evaluate
from jaxvision.interop import DarknetNetwork, read_cfg, read_weights
from jaxvision.tasks import DetectOptions, detection, measure_detections
from jaxvision.tasks.detectors import darknet
from tests.cli.conftest import result_of
from tests.cli.test_darknet import write
from tests.cli.test_errors import error_of
from tests.data import folders

NAMES = ("cat", "dog")
STATS = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR1", "AR10", "AR100"),
    *("AR_small", "AR_medium", "AR_large"),
)


def images():
    """Name -> size and boxes, about as large as the anchors of the detector."""
    rng = np.random.default_rng(3)
    made = {}
    for name in "abcdef":
        boxes = []
        for _ in range(6):
            x, y = rng.integers(0, 16, 2)
            width, height = rng.integers(7, 17, 2)
            boxes.append((*map(int, (x, y, x + width, y + height)), NAMES[rng.integers(2)]))
        made[name] = ((34, 33), boxes)
    return made


def write_coco(folder):
    folders.write_images(folder / "images")
    content = folders.coco_content()
    for entry in content["annotations"]:
        entry["iscrowd"] = 0
    (folder / "annotations").mkdir()
    (folder / "annotations" / "train.json").write_text(json.dumps(content))
    return folder


FORMS = {
    "coco": (write_coco, CocoFolder),
    "voc": (folders.write_voc, VocFolder),
    "yolo": (folders.write_yolo, YoloFolder),
}


def by_pycocotools(source, file):
    """COCO's twelve numbers of the detections in a file; images have numbers there."""
    targets = [source.target(index) for index in range(len(source))]
    ids = {source.image_id(index): index + 1 for index in range(len(source))}
    categories = getattr(source, "category_ids", None) or (1, 2)
    annotations = []
    for number, target in enumerate(targets, start=1):
        areas = target["area"]
        for row, (x1, y1, x2, y2) in enumerate(target["boxes"].tolist()):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": categories[target["labels"][row]],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1) if areas is None else areas[row],
                    "iscrowd": int(target["crowd"][row]),
                }
            )
    results = json.loads(file.read_text())
    for entry in results:
        entry["image_id"] = ids[entry["image_id"]]
    with contextlib.redirect_stdout(io.StringIO()):
        data = COCO()
        data.dataset = {
            "images": [{"id": number + 1} for number in range(len(targets))],
            "annotations": annotations,
            "categories": [{"id": identity} for identity in categories],
        }
        data.createIndex()
        evaluation = COCOeval(data, data.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(STATS, evaluation.stats.tolist(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_the_same_numbers_by_every_way(command, tmp_path, monkeypatch, form):
    """`eval --cfg`, the metrics in Python, pycocotools, and `eval --predictions`."""
    monkeypatch.setattr(folders, "IMAGES", images())
    writer, reader = FORMS[form]
    folder = writer(tmp_path / "data")
    cfg, weights = write(tmp_path, 2)
    data = [f"--data={folder}", "--split=train"]
    least = "--config.detect.score_threshold=0.0001"
    flags = [f"--cfg={cfg}", f"--weights={weights}", *data, "--out=out", least]
    of_eval, _ = result_of(command, "eval", *flags)
    assert of_eval["AP"] > 0
    source, description = reader(folder, "train"), read_cfg(cfg)
    assert sorted(source.class_names) == sorted(NAMES)

    written = tmp_path / "out" / "detections_train.json"
    stats = by_pycocotools(source, written)
    for name, value in stats.items():
        if value != -1:  # no object of this size
            assert of_eval[name] == pytest.approx(value, abs=1e-9), name

    inputs = Inputs((32, 32), resize=description.resize)
    detector = darknet(DarknetNetwork(description), decode=DetectOptions(score_threshold=0.0001))
    task = detection(detector, inputs, class_names=source.class_names)
    loader = EvalLoader(source, ToDetection(inputs, 2), batch_size=4)
    evaluation = evaluate(task, read_weights(weights, description), loader)
    assert evaluation.metrics == pytest.approx(
        {name: of_eval[name] for name in evaluation.metrics}, abs=1e-6
    )
    found = read_coco_results(written, source)
    assert found.valid.sum() == evaluation.collected.valid.sum()
    numbers = measure_detections(found, source).numbers
    assert numbers == {name: of_eval[name] for name in numbers}

    measured, err = result_of(command, "eval", f"--predictions={written}", *data, "--out=again")
    assert measured == {name: of_eval[name] for name in measured}
    assert f"{len(json.loads(written.read_text()))} detections in 6 images" in err
    files = {path.name for path in (tmp_path / "out").iterdir()} - {written.name}
    assert {path.name for path in (tmp_path / "again").iterdir()} == files
    for name in ("classes_train.csv", "precision_recall_train.csv"):
        again = (tmp_path / "again" / name).read_text()
        assert (tmp_path / "out" / name).read_text() == again


def test_classes_may_be_numbered_from_0_or_1(command, tmp_path):
    folder = write_coco(tmp_path / "data")
    entry = {"image_id": 9, "bbox": [12, 3, 28, 6], "score": 1}
    flags = [f"--data={folder}", "--split=train", "--predictions=results.json"]
    found = []
    # The cat of image 9 in each numbering; those of its file are 3 and 17.
    for category, how in ((3, "data"), (0, "from0"), (1, "from1")):
        pathlib.Path("results.json").write_text(json.dumps([{**entry, "category_id": category}]))
        result, err = result_of(command, "eval", *flags, f"--category_ids={how}")
        found.append(result)
        assert "give --out=FOLDER" in err
    assert found[0] == found[1] == found[2]
    assert found[0]["AP50"] == pytest.approx(0.5 * 51 / 101)  # one of two cats, no dog


def test_what_does_not_fit_is_said(command, tmp_path):
    folder = write_coco(tmp_path / "data")
    results = tmp_path / "results.json"
    results.write_text(
        json.dumps([{"image_id": 9, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}])
    )
    flags = [f"--predictions={results}", f"--data={folder}"]
    assert "entry 1: category_id is 1, but those of the classes are 3, 17" in error_of(
        command("eval", *flags, "--split=train")
    )
    assert "give --data=FOLDER" in error_of(command("eval", flags[0]))
    assert "--predictions is for detection, but the config is for classification" in error_of(
        command("eval", *flags, "--config=digits_lenet5")
    )
    assert "--category_ids goes with --predictions" in error_of(
        command("eval", "--workdir=nothing", "--category_ids=from0")
    )
    (tmp_path / "names.txt").write_text("bird\nfish\n")
    message = error_of(command("eval", *flags, "--split=train", "--names=names.txt"))
    assert "bird" in message
    code, out, _ = command("eval", "--predictions=x", "--help")
    assert code == 0
    assert "--category_ids" in out
