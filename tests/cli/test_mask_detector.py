"""A detector of boxes with masks: its numbers, tables, pictures and predictions."""

import csv
import json
import types

import numpy as np
import pytest
from PIL import Image

from jaxvision.cli import setup
from jaxvision.cli.config import load_config, shipped_configs
from jaxvision.cli.kinds.detection import pictures, results
from jaxvision.core import Detections
from jaxvision.ops import (
    MaskTable,
    Polygons,
    RunLengths,
    decode_mask,
    decompress_counts,
    encode_mask,
    mask_area,
)
from jaxvision.predict import DetectedObjects, Prediction, draw_detections
from tests import tiny_mask_detector
from tests.cli.conftest import result_of
from tests.cli.test_errors import error_of
from tests.data.folders import coco_content, write_images

FILE = tiny_mask_detector.__file__
IMAGE = np.full((40, 50, 3), 128, np.uint8)
NAMES = ("cat", "dog")


def mask_of(rows, columns):
    mask = np.zeros(IMAGE.shape[:2], bool)
    mask[slice(*rows), slice(*columns)] = True
    return mask


def test_an_entry_has_the_mask_as_cocos_results_have_it():
    coco_masks = pytest.importorskip("pycocotools.mask")
    masks = np.stack([mask_of((25, 38), (8, 45)), mask_of((0, 0), (0, 0))])
    table = MaskTable.of([*map(encode_mask, masks)])
    boxes = np.array([[8.0, 25, 45, 38], [1, 2, 3, 4]])
    found = DetectedObjects(boxes, np.array([1, 0]), np.array([0.9, 0.5]), table)
    task = types.SimpleNamespace(class_names=NAMES)
    result = results(Prediction("a.png", IMAGE, found), task)
    entries = json.loads(json.dumps(result.entry))["detections"]
    for entry, mask in zip(entries, masks, strict=True):
        assert entry["segmentation"]["size"] == [40, 50]
        np.testing.assert_array_equal(coco_masks.decode(entry["segmentation"]), mask)
    bare = results(Prediction("a.png", IMAGE, found._replace(masks=None)), task)
    assert bare.entry["detections"][0].keys() == {"label", "bbox", "score"}
    assert (result.files[0] != bare.files[0]).any(axis=-1)[masks[0]].any()


def test_the_pictures_of_an_evaluation_have_the_masks():
    """In pixels of the picture, which is larger than the image; of those that are sure enough."""
    masks = [mask_of((5, 9), (8, 30)), mask_of((20, 30), (10, 30))]
    boxes = np.float32([[[0, 0, 1, 1], [8, 5, 30, 9], [10, 20, 30, 30]]])
    found = Detections(
        boxes=boxes,
        scores=np.float32([[0.9, 0.2, 0.8]]),
        labels=np.array([[0, 1, 1]]),
        valid=np.array([[False, True, True]]),
        masks=np.empty(1, object),
    )
    found.masks[0] = MaskTable.of([*map(encode_mask, masks)])
    corners = np.array([[10.0, 20], [30, 20], [30, 30], [10, 30]])
    record = {
        "image": IMAGE,
        "boxes": boxes[0, 2:].astype(float),
        "labels": np.array([0]),
        "masks": (Polygons((corners,)),),
        "size": (40, 50),
    }
    shown = types.SimpleNamespace(
        evaluation=types.SimpleNamespace(collected=found),
        records=[record],
        class_names=NAMES,
    )
    ((row),) = pictures(shown)
    size = row["found"].shape[:2]
    factor = size[0] / 40
    assert factor > 4
    large = np.asarray(Image.fromarray(masks[1]).resize(size[::-1]))[None]
    canvas = np.full((*size, 3), 128, np.uint8)
    box = boxes[0, 2:] * np.float32([size[1] / 50, size[0] / 40] * 2)
    for caption, label, score in (("found", 1, np.float32([0.8])), ("truth", 0, None)):
        expected = draw_detections(canvas, box, np.array([label]), score, NAMES, masks=large)
        np.testing.assert_array_equal(row[caption], expected)


@pytest.fixture
def folder(tmp_path):
    """A folder in COCO's form, with polygons and run-lengths."""
    content = coco_content()
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    for entry in content["annotations"]:
        x, y, width, height = entry["bbox"]
        entry["segmentation"] = [[x, y, x + width, y, x + width, y + height, x, y + height]]
        if entry["iscrowd"]:
            size = sizes[entry["image_id"]]
            mask = np.zeros(size, bool)
            mask[y : y + height, x : x + width] = True
            counts = encode_mask(mask).counts.tolist()
            entry["segmentation"] = {"size": list(size), "counts": counts}
    write_images(tmp_path / "mine" / "train")
    (tmp_path / "mine" / "annotations").mkdir()
    file = tmp_path / "mine" / "annotations" / "instances_train.json"
    file.write_text(json.dumps(content))
    return tmp_path / "mine"


@pytest.mark.slow
def test_masks_and_keypoints_are_in_batches_of_training_alone():
    for name in ("coco_mask_rcnn", "coco_keypoint_rcnn"):
        config = load_config(shipped_configs()[name])
        config.data.sizes = ()
        built = setup.build(config)
        train, evaluation = built.train_transform, built.eval_transform
        assert train.masks == (name == "coco_mask_rcnn")
        assert train.num_keypoints == (17 if name == "coco_keypoint_rcnn" else None)
        assert not evaluation.masks
        assert evaluation.num_keypoints is None


def test_masks_of_another_size_are_pasted_in_training(command, folder, tmp_path):
    usual = [f"--config={FILE}", f"--config.data.dir={folder}", f"--workdir={tmp_path / 'run'}"]
    paste = "--config.augment.copy_paste=1"
    error = error_of(command("train", *usual, "--config.data.masks=False", paste))
    assert error == (
        "config.augment.copy_paste pastes objects along their masks, but config.data.masks is "
        "False: set it to True, or leave copy_paste out"
    )
    error = error_of(command("train", *usual, "--config.data.mask_size=0"))
    assert error == "config.data.mask_size is 0: give at least 1"
    result_of(command, "train", *usual, paste, "--config.data.mask_size=9")
    config = tiny_mask_detector.get_config()
    config.data.dir, config.data.class_names = str(folder), NAMES
    config.data.mask_size, config.augment.copy_paste = 9, 1.0
    built = setup.build(config)
    assert (built.task.partners, built.train_transform.mask_size) == (1, 9)
    data = setup.train_data(config, built, setup.Splits(config).open("train"))
    assert next(data).masks.shape == (4, 4, 9, 9)


@pytest.mark.slow
def test_it_is_trained_evaluated_and_predicts(command, folder, tmp_path):
    usual = [f"--config={FILE}", f"--config.data.dir={folder}", f"--workdir={tmp_path / 'run'}"]
    error = error_of(command("train", *usual, "--config.data.masks=False"))
    assert "config.data.masks is False, but the detector finds masks" in error
    trained, _ = result_of(command, "train", *usual)
    trust = [f"--workdir={tmp_path / 'run'}", f"--trust-code={FILE}", f"--out={tmp_path / 'out'}"]
    found, err = result_of(command, "eval", *trust)
    assert found["mask_AP"] == trained["mask_AP"]
    assert found.keys() >= {"AP", "AP50", "mask_AP", "mask_AP50", "mask_AP75"}
    assert "mask_AP50" in err
    with next((tmp_path / "out").glob("classes_*.csv")).open() as file:
        titles = next(csv.reader(file))
    assert titles[-3:] == ["mask_AP", "mask_AP50", "mask_AP75"]
    assert list((tmp_path / "out").glob("mask_precision_recall_*.csv"))
    written = tmp_path / "out" / "detections_test.json"
    data = [f"--data={folder}", "--split=train", "--config.data.masks=True"]
    again, _ = result_of(command, "eval", f"--predictions={written}", *data)
    assert again == {**{name: found[name] for name in again}, "split": "train"}
    assert again.keys() == found.keys() - {"steps", "variables_digest"}

    found, _ = result_of(command, "predict", *trust, folder / "train")
    assert (found["images"], found["objects"]) == (3, 6)
    entries = json.loads((tmp_path / "out" / "predictions.json").read_text())["images"]
    areas = []
    for entry in entries:
        for each in entry["detections"]:
            given = each["segmentation"]
            mask = RunLengths(given["size"], decompress_counts(given["counts"]))
            assert mask.size == (entry["height"], entry["width"])
            areas.append(mask_area(mask))
            x, y, width, height = each["bbox"]
            rows, columns = np.nonzero(decode_mask(mask))
            assert ((rows >= y - 2) & (rows <= y + height + 2)).all()
            assert ((columns >= x - 2) & (columns <= x + width + 2)).all()
    assert max(areas) > 0


def test_an_image_with_300_objects(command, folder, tmp_path, caplog):
    """More than config.data.max_boxes: refused, or trained on some; an evaluation counts all."""
    file = folder / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    first = content["annotations"][0]
    content["annotations"] += [{**first, "id": 1000 + number} for number in range(298)]
    file.write_text(json.dumps(content))
    usual = [f"--config={FILE}", f"--config.data.dir={folder}", f"--workdir={tmp_path / 'run'}"]
    error = error_of(command("train", *usual))
    assert error.startswith("config.data.max_boxes is 4, but ")
    assert "has 300 boxes: give 300, or leave out the smallest ones with drop_extra=True" in error
    result_of(command, "train", *usual, "--config.data.drop_extra")
    lacking = "examples lack 296 of 301 objects, the smallest ones, in 1 of 3 images"
    assert caplog.text.count(lacking) == 2  # to train, and to test
    how = [f"--trust-code={FILE}", f"--out={tmp_path / 'out'}"]
    result_of(command, "eval", f"--workdir={tmp_path / 'run'}", *how)
    assert caplog.text.count(lacking) == 3
    with next((tmp_path / "out").glob("classes_*.csv")).open() as table:
        rows = list(csv.DictReader(table))
    assert sum(int(row["objects"]) for row in rows) == 301
