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
from jaxvision.ops import compress_counts, encode_mask
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
KEYPOINT_STATS = (
    *("AP", "AP50", "AP75", "AP_medium", "AP_large"),
    *("AR", "AR50", "AR75", "AR_medium", "AR_large"),
)


SCALES = (1, 1, 4, 4, 8, 8)
"""Of the images: their objects are small, medium and large."""


def images(names="abcdef"):
    """Name -> size and boxes, in the network's input about as large as the detector's anchors."""
    rng = np.random.default_rng(3)
    made = {}
    for name, scale in zip(names, SCALES, strict=True):
        boxes = []
        for _ in range(6):
            x, y = rng.integers(0, 16, 2)
            width, height = rng.integers(7, 17, 2)
            corners = (scale * int(side) for side in (x, y, x + width, y + height))
            boxes.append((*corners, NAMES[rng.integers(2)]))
        made[name] = ((34 * scale, 33 * scale), boxes)
    return made


def write_coco(folder, content=None):
    folders.write_images(folder / "images")
    (folder / "annotations").mkdir()
    text = json.dumps(coco_content() if content is None else content)
    (folder / "annotations" / "train.json").write_text(text)
    return folder


def coco_content():
    """As that of the folders of tests, but with the areas of the boxes, and without crowds."""
    content = folders.coco_content()
    for entry in content["annotations"]:
        _, _, width, height = entry["bbox"]
        entry |= {"iscrowd": 0, "area": width * height}
    return content


FORMS = {
    "coco": (write_coco, CocoFolder),
    "voc": (folders.write_voc, VocFolder),
    "yolo": (folders.write_yolo, YoloFolder),
}


def annotation_file(source, file):
    """Writes the objects of a source in COCO's form, with the ids that its results have."""
    annotations = []
    for index in range(len(source)):
        target = source.target(index)
        for label, (x1, y1, x2, y2) in zip(target["labels"], target["boxes"].tolist(), strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": source.image_id(index),
                    "category_id": int(label) + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                }
            )
    content = {
        "images": [{"id": source.image_id(index)} for index in range(len(source))],
        "annotations": annotations,
        "categories": [{"id": number + 1} for number in range(len(source.class_names))],
    }
    file.write_text(json.dumps(content))
    return file


def by_pycocotools(annotations, results, iou_type="bbox"):
    """COCO's numbers of the results, each a file or, of the latter, what is in one."""
    with contextlib.redirect_stdout(io.StringIO()):
        data = COCO(str(annotations))
        found = data.loadRes(results if isinstance(results, list) else str(results))
        evaluation = COCOeval(data, found, iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    names = KEYPOINT_STATS if iou_type == "keypoints" else STATS
    stats = dict(zip(names, evaluation.stats.tolist(), strict=True))
    assert min(stats.values()) >= 0, stats  # -1: there are no such objects
    return stats


@pytest.mark.parity
@pytest.mark.parametrize("form", FORMS)
def test_the_same_numbers_by_every_way(command, tmp_path, monkeypatch, form):
    """`eval --cfg`, the metrics in Python, pycocotools, and `eval --predictions`."""
    # The ids of YOLO's images are numbers, those of VOC's are texts.
    monkeypatch.setattr(folders, "IMAGES", images("123456" if form == "yolo" else "abcdef"))
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
    entries = json.loads(written.read_text())
    ids = {"coco": {4, 5, 6, 7, 8, 9}, "voc": {*"abcdef"}, "yolo": {1, 2, 3, 4, 5, 6}}[form]
    assert {entry["image_id"] for entry in entries} == ids
    assert {entry["category_id"] for entry in entries} == ({3, 17} if form == "coco" else {1, 2})
    if form == "coco":
        annotations = folder / "annotations" / "train.json"
    else:
        annotations = annotation_file(source, tmp_path / "annotations.json")
    stats = by_pycocotools(annotations, written)
    assert {name: of_eval[name] for name in STATS} == pytest.approx(stats, abs=1e-9)

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
    assert f"{len(entries)} detections in 6 images" in err
    files = {path.name for path in (tmp_path / "out").iterdir()} - {written.name}
    assert {path.name for path in (tmp_path / "again").iterdir()} == files
    for name in ("classes_train.csv", "precision_recall_train.csv"):
        again = (tmp_path / "again" / name).read_text()
        assert (tmp_path / "out" / name).read_text() == again


@pytest.mark.parity
def test_masks_and_keypoints_and_more_than_100_detections(command, tmp_path, monkeypatch):
    """The numbers of another tool's detections, of which 120 are in one image, by pycocotools."""
    monkeypatch.setattr(folders, "IMAGES", images())
    content, rng, results = coco_content(), np.random.default_rng(0), []
    sizes = {entry["id"]: (entry["height"], entry["width"]) for entry in content["images"]}
    for entry in content["annotations"]:
        x, y, width, height = entry["bbox"]
        corner, size = np.array([x, y]), np.array([width, height])
        entry["segmentation"] = [[x, y, x + width, y, x + width, y + height, x, y + height]]
        points = np.concatenate([corner + size * rng.random((17, 2)), np.full((17, 1), 2)], axis=1)
        entry |= {"keypoints": points.ravel().tolist(), "num_keypoints": 17}
        for _ in range(20 if entry["image_id"] == 9 else 2):
            low = np.clip(np.rint(corner + size * rng.normal(0, 0.1, 2)), 0, None).astype(int)
            high = np.rint(low + size * rng.uniform(0.8, 1.2, 2)).astype(int)
            mask = np.zeros(sizes[entry["image_id"]], bool)
            mask[low[1] : high[1], low[0] : high[0]] = True
            moved = points + [*size, 0] * rng.normal(0, 0.03, (17, 3))
            results.append(
                {
                    "image_id": entry["image_id"],
                    "category_id": entry["category_id"],
                    "score": float(rng.random()),
                    "bbox": [*low.tolist(), *(high - low).tolist()],
                    "segmentation": {
                        "size": list(mask.shape),
                        "counts": compress_counts(encode_mask(mask).counts).decode(),
                    },
                    "keypoints": moved.ravel().tolist(),
                }
            )
    assert sum(entry["image_id"] == 9 for entry in results) == 120
    folder, file = write_coco(tmp_path / "data", content), tmp_path / "results.json"
    file.write_text(json.dumps(results))
    # pycocotools takes the areas of the boxes for those of masks and keypoints, where it has them.
    bare = [{name: x for name, x in entry.items() if name != "bbox"} for entry in results]
    annotations = folder / "annotations" / "train.json"
    expected = by_pycocotools(annotations, file)
    for prefix, iou_type, part in (
        ("mask_", "segm", "segmentation"),
        ("keypoint_", "keypoints", "keypoints"),
    ):
        others = {"segmentation", "keypoints"} - {part}
        alone = [{name: x for name, x in entry.items() if name not in others} for entry in bare]
        stats = by_pycocotools(annotations, alone, iou_type)
        expected |= {prefix + name: value for name, value in stats.items()}
    parts = ["--config.data.masks=True", "--config.data.keypoints=True"]
    flags = [f"--predictions={file}", f"--data={folder}", "--split=train", "--out=out", *parts]
    found, _ = result_of(command, "eval", *flags)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    assert 0 < found["mask_AP"] < 1
    assert 0 < found["keypoint_AP"] < 1
    assert {path.name for path in pathlib.Path("out").iterdir()} >= {"classes_train.csv"}


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


def test_objects_with_two_keypoints_have_sigmas_of_their_own(command, tmp_path):
    content, results = coco_content(), []
    for entry in content["annotations"]:
        x, y, _, _ = entry["bbox"]
        about = {name: entry[name] for name in ("image_id", "category_id")}
        results.append({**about, "score": 1, "keypoints": [x, y + 0.1, 1, x + 4, y, 1]})
        entry |= {"keypoints": [x, y, 2, x + 4, y, 2], "num_keypoints": 2}
    pathlib.Path("results.json").write_text(json.dumps(results))
    folder = write_coco(tmp_path / "data", content)
    flags = [f"--data={folder}", "--split=train", "--predictions=results.json"]
    flags.append("--config.data.keypoints=True")
    code, _, err = command("eval", *flags)
    assert code == 2
    assert err.endswith(
        "error: config.detector.keypoint_sigmas has 17 numbers, but the detections have 2 "
        "keypoints: give one for each\n"
    )
    strict, loose = (
        result_of(command, "eval", *flags, f"--config.detector.keypoint_sigmas=({x}, {x})")[0]
        for x in (0.0001, 1.0)
    )
    assert (loose["keypoint_AP50"], loose["keypoint_AP75"]) == (1, 1)
    # One point is found exactly: half of the similarity, and no more.
    assert (strict["keypoint_AP50"], strict["keypoint_AP75"]) == (1, 0)


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
    assert error_of(command("eval", *flags, "--config.detect.score_threshold=0.5")) == (
        "config.detect.score_threshold has no effect on --predictions: give keys of config.data, "
        "or config.detector.keypoint_sigmas"
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
