"""`jaxvision anchors`: shapes in the network's input, by hand and against numpy."""

import json
import re

import numpy as np
import pytest

from jaxvision.cli import arguments
from jaxvision.cli.config import find_config, load_config
from jaxvision.data.sources.scenes import scenes
from tests.cli.test_check_data import is_picture
from tests.data.folders import IMAGES, voc_object, voc_xml, write_voc, write_yolo
from tests.data.test_folders import WRITERS

# The boxes of tests.data.folders.IMAGES in an input of 40x40, by rising area: images b, 40x20, and
# a, 16x16, keep their form in a letterbox, and b gets twice as high when it is stretched.
LETTERBOX = [[2.5, 5], [28, 6], [10, 20]]
STRETCH = [[2.5, 5], [28, 12], [10, 40]]


def result_of(command, *arguments):
    """(the result, what is said on stderr)."""
    code, out, err = command("anchors", *arguments)
    assert code == 0, err
    (line,) = out.splitlines()
    return json.loads(line), err


def numpy_average_iou(shapes, anchors):
    total = 0.0
    for width, height in shapes:
        ious = []
        for w, h in anchors:
            common = min(width, w) * min(height, h)
            ious.append(common / (width * height + w * h - common))
        total += max(ious)
    return total / len(shapes)


@pytest.mark.slow
def test_as_many_anchors_as_boxes_are_the_boxes(command, tmp_path):
    folder = write_voc(tmp_path / "mine")
    usual = [f"--data={folder}", "--k=3", "--max_k=2", "--image_size=40"]
    result, err = result_of(command, *usual)
    np.testing.assert_allclose(result["anchors"], LETTERBOX, atol=0.01)
    assert (result["k"], result["boxes"], result["image_size"]) == (3, 3, 40)
    np.testing.assert_allclose(result["average_iou"], 1, atol=1e-5)
    ious = result["average_iou_by_k"]
    assert list(ious) == ["1", "2", "3"]
    assert ious["1"] < ious["2"] < ious["3"] == result["average_iou"]
    np.testing.assert_allclose(ious["1"], numpy_average_iou(LETTERBOX, [np.mean(LETTERBOX, 0)]))
    assert f"\n 1  {ious['1']:.4f}\n 2  {ious['2']:.4f}\n 3  1.0000\n" in err
    assert err.endswith("picture: anchors_train.png\n")
    assert is_picture(tmp_path / "anchors_train.png")


@pytest.mark.slow
@pytest.mark.usefixtures("without_figures")
def test_what_is_told_to_paste_is_understood_by_train(command, tmp_path):
    folder = write_voc(tmp_path / "mine")
    for k in (1, 2):
        result, err = result_of(command, f"--data={folder}", f"--k={k}", "--max_k=1")
        (value,) = re.findall(r'^--config.anchors="(.*)"$', err, re.MULTILINE)
        flags = arguments.common_flags()
        given = ["train", f"--config.anchors={value}"]
        arguments.define_config(flags, "scenes_yolov2_tiny", given)
        arguments.parse(flags, given, "")
        assert [list(anchor) for anchor in flags.config.anchors] == result["anchors"]


def anchors_of(command, *arguments, k=1):
    """The anchors of boxes in an input of 40x40."""
    return result_of(command, f"--k={k}", "--max_k=1", *arguments)[0]


@pytest.mark.usefixtures("without_figures")
def test_what_training_leaves_out_is_left_out(command, tmp_path):
    """In COCO's form the dog is a crowd, in VOC's it is flagged here."""
    folder = WRITERS["coco 0"](tmp_path / "coco")
    assert anchors_of(command, f"--data={folder}", "--image_size=40")["boxes"] == 2
    folder = write_voc(tmp_path / "voc")
    (x1, y1, x2, y2, name), cat = IMAGES["b"][1]
    dog = voc_object(x1, y1, x2, y2, name, "<difficult>1</difficult>")
    (folder / "Annotations" / "b.xml").write_text(voc_xml("b", dog + voc_object(*cat)))
    result = anchors_of(command, f"--data={folder}", "--image_size=40")
    assert result["boxes"] == 2
    np.testing.assert_allclose(result["anchors"], [np.mean(LETTERBOX[:2], axis=0)], atol=0.01)


@pytest.fixture
def config(tmp_path):
    """Arguments that make the config of the scenes one of a folder in YOLO's form."""
    folder = write_yolo(tmp_path / "yolo")
    changes = {
        "source": "yolo",
        "dir": folder,
        "class_names": "()",
        "validation_fraction": 0.0,
        "image_size": 40,
    }
    settings = [f"--config.data.{key}={value}" for key, value in changes.items()]
    return ["--config=scenes_yolov2_tiny", *settings]


@pytest.mark.parametrize(("resize", "expected"), [("letterbox", LETTERBOX), ("stretch", STRETCH)])
@pytest.mark.usefixtures("without_figures")
def test_the_boxes_of_a_config(command, config, resize, expected):
    result = anchors_of(command, *config, f"--config.data.resize={resize}", k=3)
    assert result["image_size"] == 40
    np.testing.assert_allclose(result["anchors"], expected, atol=0.01)


@pytest.mark.slow
@pytest.mark.usefixtures("without_figures")
def test_of_a_config_too_what_training_leaves_out_is_left_out(command, config, tmp_path):
    folder = write_voc(tmp_path / "voc")
    objects = "".join(
        voc_object(0, 0, side, side, "cat", f"<difficult>{side % 2}</difficult>")
        for side in (3, 4, 5)
    )
    (folder / "Annotations" / "a.xml").write_text(voc_xml("a", objects))
    usual = [*config, "--config.data.source=voc", f"--config.data.dir={folder}"]
    assert anchors_of(command, *usual)["boxes"] == 3
    assert anchors_of(command, *usual, "--config.data.difficult")["boxes"] == 5
    folder = WRITERS["coco 0"](tmp_path / "coco")
    usual = [*config, "--config.data.source=coco", f"--config.data.dir={folder}"]
    assert anchors_of(command, *usual)["boxes"] == 2


@pytest.mark.usefixtures("without_figures")
def test_bad_records_are_refused_or_left_out(command, config, tmp_path):
    folder = tmp_path / "yolo"
    (folder / "labels" / "train" / "a.txt").write_text("0 0.9 0.5 0.3 0.1")
    (folder / "labels" / "train" / "c.txt").unlink()
    code, out, err = command("anchors", f"--data={folder}")
    assert (code, out) == (2, "")
    message = err.splitlines()[-1]
    assert message.startswith(f"error: {folder} train has problems (2 in all), such as {folder}/")
    assert message.endswith("or leave those records out with --drop_bad")
    result, err = result_of(command, f"--data={folder}", "--drop_bad", "--k=1", "--max_k=1")
    assert result["boxes"] == 2
    assert "some records are left out for 2 problems" in err
    code, out, err = command("anchors", *config)
    assert (code, out) == (2, "")
    assert "has 2 problems" in err
    assert anchors_of(command, *config, "--config.data.drop_bad")["boxes"] == 2


@pytest.mark.slow
@pytest.mark.usefixtures("without_figures")
def test_a_seed_gives_the_same_anchors_again(command, tmp_path):
    folder = write_yolo(tmp_path / "mine")
    rng = np.random.default_rng(0)
    shares = rng.uniform(0.05, 0.4, (60, 2))
    lines = [f"0 0.5 0.5 {width} {height}" for width, height in shares]
    (folder / "labels" / "train" / "a.txt").write_text("\n".join(lines))
    usual = [f"--data={folder}", "--k=6", "--max_k=1"]
    first, again, other = (
        result_of(command, *usual, *x)[0]["anchors"] for x in ([], ["--seed=0"], ["--seed=1"])
    )
    assert first == again != other
    areas = np.prod(first, axis=1)
    assert (np.diff(areas) >= 0).all()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "no --data: give the folder of the images and annotations"),
        (["--data=nowhere"], "--form is not given, and nowhere fits no form for the split 'train'"),
        (["--data=mine", "--k=0"], "flag --k=0: 0 is not a positive integer"),
        (["--data=mine", "--image_size=0"], "flag --image_size=0: 0 is not a positive"),
        (["--data=mine", "--resize=crop"], "flag --resize=crop: value should be one of <letterb"),
        (["--data=mine", "--config.data.image_size=9"], "Unknown command line flag 'config.data"),
        (["--config=digits_lenet5"], "--config=digits_lenet5 is for classification: give one for"),
        (["--config=scenes"], "no config 'scenes': did you mean 'scenes_"),
        (
            ["--config=scenes_yolov2_tiny", "--data=mine"],
            "--data does not go with --config: set the keys of its data instead, such as --config.",
        ),
        (["--config=scenes_yolov2_tiny", "--drop_bad"], "--drop_bad does not go with --config"),
        (["--config=scenes_yolov2_tiny", "--image_size=9"], "--image_size does not go with"),
        (
            ["--config=scenes_yolov2_tiny", "--config.data.image_size=0"],
            "config.data.image_size is 0: give at least 1",
        ),
        (["--data=mine", "--split=empty"], "there are no boxes to find anchors for"),
    ],
)
def test_bad_arguments(command, tmp_path, arguments, expected):
    folder = write_voc(tmp_path / "mine")
    (folder / "ImageSets" / "Main" / "empty.txt").write_text("c\n")
    code, out, err = command("anchors", *arguments)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith(f"error: {expected}")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_help(command):
    code, out, err = command("anchors", "--help")
    assert (code, err) == (0, "")
    assert "jaxvision anchors --data=DIR " in out
    for name in ("data", "form", "split", "class_names", "k", "max_k", "image_size", "resize"):
        assert f"\n  --{name}: " in out
    out = command("anchors", "--config=scenes_yolov2_tiny", "--help")[1]
    assert "\n      --config.data.image_size=96" in out


@pytest.mark.slow
def test_bccd(command, tmp_path, real_data):
    """The boxes of the images of 640x480 as their text has them, in a letterbox of 416 x 312."""
    folder = real_data / "bccd"
    names = (folder / "ImageSets" / "Main" / "train.txt").read_text().split()
    text = "".join((folder / "Annotations" / f"{name}.xml").read_text() for name in names)
    x1, x2, y1, y2 = (
        np.array([int(x) for x in re.findall(f"<{side}>(\\d+)</{side}>", text)])
        for side in ("xmin", "xmax", "ymin", "ymax")
    )
    shapes = np.stack([x2 - x1 + 1, y2 - y1 + 1], axis=1) * 0.65
    result, _ = result_of(command, f"--data={folder}", "--k=3", "--max_k=2")
    assert result["boxes"] == len(shapes)
    by_k, anchors = result["average_iou_by_k"], result["anchors"]
    np.testing.assert_allclose(
        by_k["1"], numpy_average_iou(shapes, [shapes.mean(axis=0)]), atol=1e-5
    )
    np.testing.assert_allclose(result["average_iou"], numpy_average_iou(shapes, anchors), atol=1e-4)
    # Platelets, red and white cells: each anchor is the mean of the boxes that it covers best.
    common = np.minimum(shapes[:, None], anchors).prod(axis=2)
    iou = common / (shapes.prod(axis=1)[:, None] + np.prod(anchors, axis=1) - common)
    means = [shapes[iou.argmax(axis=1) == i].mean(axis=0) for i in range(3)]
    np.testing.assert_allclose(anchors, means, atol=0.01)
    assert is_picture(tmp_path / "anchors_train.png")


@pytest.mark.long
@pytest.mark.usefixtures("without_figures")
def test_the_embedded_scenes(command, tmp_path):
    """They have the size of the input, so that the boxes stay as they were drawn."""
    boxes = np.concatenate([boxes for _, _, boxes, _ in scenes("train")])
    shapes = boxes[:, 2:] - boxes[:, :2]
    settings = [f"--config.data.dir={tmp_path}", "--config.data.validation_fraction=0.0"]
    result, _ = result_of(command, "--config=scenes_yolov2_tiny", *settings, "--k=3", "--max_k=1")
    assert (result["boxes"], result["image_size"]) == (len(shapes), 96)
    average = numpy_average_iou(shapes, result["anchors"])
    np.testing.assert_allclose(result["average_iou"], average, atol=1e-4)
    shipped = load_config(find_config("scenes_yolov2_tiny")).anchors
    assert average > numpy_average_iou(shapes, shipped) > average - 0.05
