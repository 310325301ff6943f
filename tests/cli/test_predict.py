"""`jaxvision predict`, and what training and evaluating a detector leaves behind."""

import csv
import functools
import json
import pathlib
from fractions import Fraction

import jax
import numpy as np
import pytest
from PIL import Image

import jaxvision
from jaxvision.data import VideoFrames
from jaxvision.engine import read_run, restore_weights
from jaxvision.interop import DarknetNetwork, read_cfg, write_weights
from jaxvision.predict import VideoWriter, predict
from tests.models.variables import random_variables


@pytest.fixture(scope="module")
def data(objects):
    return objects


@pytest.fixture(scope="module")
def detector(trained):
    """The finished run of a detector."""
    return trained("detection")


@pytest.fixture(scope="module")
def darknet(tmp_path_factory):
    """Flags that name a description, weights and names."""
    folder = tmp_path_factory.mktemp("darknet")
    cfg = folder / "mine.cfg"
    cfg.write_text(
        "[net]\nheight=32\nwidth=32\nchannels=3\n"
        "[conv]\nfilters=14\nsize=3\nstride=8\npad=1\nactivation=linear\n"
        "[region]\nanchors=1,1,2,1.5\nnum=2\nclasses=2\ncoords=4\nsoftmax=1\n"
    )
    description = read_cfg(cfg)
    images = np.zeros((1, 32, 32, 3), np.float32)
    variables = random_variables(DarknetNetwork(description), images)
    write_weights(folder / "mine.weights", description, variables)
    (folder / "mine.names").write_text("cat\ndog\n")
    return [f"--{name}={folder / 'mine'}.{name}" for name in ("cfg", "weights", "names")]


@pytest.mark.slow
def test_training_a_detector_leaves_its_classes_a_table_and_pictures(detector):
    config = read_run(detector.folder)["config"]
    assert config["data"]["class_names"] == ["cat", "dog"], "found in the data"
    with Image.open(detector.folder / "predictions_test.png") as picture:
        assert picture.width > 900
    metrics = [json.loads(x) for x in (detector.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in metrics] == [1, 2, 3, 4]
    assert {"xy", "wh", "objectness", "no_objectness", "class", "loss"} <= metrics[0].keys()


def test_evaluating_a_detector_prints_numbers_and_a_table(detector, evaluated):
    result, err = evaluated("detection")
    assert result["split"] == "../mine/train"
    assert {key: result[key] for key in ("AP", "AP50")} == {
        key: detector.result[key] for key in ("AP", "AP50")
    }
    assert result.keys() >= {"split", "AP", "AP50", "AP75", "mAP_VOC", "steps", "variables_digest"}
    assert 0 <= result["AP"] <= result["AP50"] <= 1
    table = [line.split() for line in err.splitlines()]
    assert ["class", "objects", "AP", "AP50", "AP75"] in table
    rows = {row[0]: row[1] for row in table if row}
    assert (rows["cat"], rows["dog"]) == ("2", "1")
    assert (detector.folder / "predictions_.._mine_train.png").stat().st_size > 1000


@pytest.mark.long
def test_a_finished_run_says_the_same_again(detector, command):
    code, out, err = command("train", *detector.arguments, f"--workdir={detector.folder}")
    assert code == 0
    assert "is finished (4 steps)" in err
    assert json.loads(out)["steps"] == 4


def check_result(out_folder, out, names):
    """What every prediction leaves; gives its JSON."""
    result = json.loads((out_folder / "predictions.json").read_text())
    assert [pathlib.Path(x["file"]).name for x in result["images"]] == names
    objects = 0
    for entry in result["images"]:
        with Image.open(entry["picture"]) as picture, Image.open(entry["file"]) as image:
            assert picture.size == image.size == (entry["width"], entry["height"])
        scores = [found["score"] for found in entry["detections"]]
        assert scores == sorted(scores, reverse=True)
        for found in entry["detections"]:
            x, y, width, height = found["bbox"]
            assert 0 <= x <= x + width <= entry["width"] + 1e-3
            assert 0 <= y <= y + height <= entry["height"] + 1e-3
            assert found["label"] in ("cat", "dog")
        objects += len(scores)
    summary = json.loads(out.splitlines()[-1])
    assert summary["images"] == len(names)
    assert summary["objects"] == objects
    return result


@pytest.mark.slow
def test_a_run_predicts_as_in_python_where_its_decoding_may_be_changed(
    detector, data, command, tmp_path
):
    out_folder = tmp_path / "new" / "found"
    code, out, err = command(
        "predict",
        f"--workdir={detector.folder}",
        f"--out={out_folder}",
        "--score=0.001",
        "--most=9",
        str(data / "JPEGImages" / "[abc].png"),
    )
    assert code == 0
    assert "the checkpoint of step 4" in err
    result = check_result(out_folder, out, ["a.png", "b.png", "c.png"])
    assert result["failed"] == []
    found = [[x["score"] for x in entry["detections"]] for entry in result["images"]]
    assert max(map(len, found)) == 9

    threshold = np.sort(np.concatenate(found))[12]
    decode = {"score_threshold": threshold - 1e-5, "iou_threshold": 0.45, "max_detections": 5}
    run = jaxvision.load_run(detector.folder, decode=decode)
    again = list(predict(run.task, run.variables, sorted((data / "JPEGImages").iterdir())))
    for scores, ours in zip(found, again, strict=True):
        expected = [score for score in scores if score >= threshold][:5]
        np.testing.assert_allclose(ours.result.scores, expected, atol=1e-5)


def test_darknets_files_predict_and_a_bad_image_does_not_stop_the_rest(
    darknet, data, command, tmp_path
):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    images = [tmp_path / "broken.jpg", *(data / "JPEGImages" / f"{x}.png" for x in "ba")]
    code, out, err = command("predict", *darknet, "--out=found", "--score=0.05", *images)
    assert code == 1
    assert f"failed: {tmp_path / 'broken.jpg'} cannot be read as an image" in err
    result = check_result(tmp_path / "found", out, ["b.png", "a.png"])
    assert [entry["file"] for entry in result["failed"]] == [str(tmp_path / "broken.jpg")]
    objects = [(x["file"], y) for x in result["images"] for y in x["detections"]]
    assert objects
    with (tmp_path / "found" / "predictions.csv").open(newline="") as table:
        titles, *rows = csv.reader(table)
    assert titles == ["file", "frame", "time", "label", "score", "x", "y", "width", "height"]
    assert [[row[0], *row[3:]] for row in rows] == [
        [file, x["label"], *map(str, [x["score"], *x["bbox"]])] for file, x in objects
    ]
    code, out, _ = command("predict", *darknet, "--out=found", "--score=1", *images[1:])
    assert code == 0
    assert json.loads(out)["objects"] == 0


def test_an_interrupted_prediction_keeps_whole_files_alone(
    darknet, data, command, tmp_path, monkeypatch
):
    """Ctrl-C while the third picture is being written."""
    (tmp_path / "images").mkdir()
    for number in range(9):
        source = data / "JPEGImages" / "a.png"
        (tmp_path / "images" / f"{number}.png").write_bytes(source.read_bytes())
    write = Image.Image.save

    def interrupted(image, stream, **how):
        if "2.png" in stream.name:
            stream.write(b"a part")
            raise KeyboardInterrupt
        write(image, stream, **how)

    monkeypatch.setattr(Image.Image, "save", interrupted)
    code, out, err = command("predict", *darknet, "--out=found", "--batch_size=2", "images")
    assert code == 130
    assert err.splitlines()[-1] == "interrupted"
    assert out == ""
    left = [path for path in (tmp_path / "found").iterdir() if path.suffix != ".json"]
    pictures = [path for path in left if path.suffix == ".png"]
    assert 2 <= len(pictures) < 9
    assert tmp_path / "found" / "2.png" not in pictures
    for path in pictures:
        with Image.open(path) as picture:
            picture.load()
    assert [path.name for path in left if path not in pictures] == ["predictions.csv"]
    found = json.loads((tmp_path / "found" / "predictions.json").read_text())
    entries = [pathlib.Path(x["picture"]).name for x in found["images"]]
    assert entries == sorted(path.name for path in pictures)


@pytest.mark.slow
def test_videos_are_predicted_frame_by_frame_up_to_a_damage(darknet, command, tmp_path):
    pytest.importorskip("av")
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        with VideoWriter(tmp_path / f"{name}.mp4", Fraction(12)) as writer:
            for _ in range(20):
                writer.write(rng.integers(0, 256, (33, 47, 3), np.uint8))
    content = bytearray((tmp_path / "b.mp4").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = bytes(3000)
    (tmp_path / "b.mp4").write_bytes(content)
    (tmp_path / "c.mp4").touch()
    code, out, err = command("predict", *darknet, "--out=found", "--score=0.05", tmp_path)
    assert code == 1, err
    summary = json.loads(out.splitlines()[-1])
    result = json.loads((tmp_path / "found" / "predictions.json").read_text())
    whole, damaged = result["videos"]
    assert [x["frame"] for x in whole["frames"]] == list(range(20))
    np.testing.assert_allclose([x["time"] for x in whole["frames"]], np.arange(20) / 12, atol=1e-3)
    assert (whole["width"], whole["height"], whole["frame_rate"]) == (48, 34, 12)
    kept = len(damaged["frames"])
    assert 0 < kept < 20
    assert [pathlib.Path(x["file"]).name for x in result["failed"]] == ["b.mp4", "c.mp4"]
    assert f"use the {kept} frames before it" in result["failed"][0]["reason"]
    for video in result["videos"]:
        pictures = list(VideoFrames(video["video"]))
        assert len(pictures) == len(video["frames"])
        assert pictures[0].shape == (34, 48, 3)
    objects = sum(len(x["detections"]) for x in (*whole["frames"], *damaged["frames"]))
    assert (summary["frames"], summary["objects"]) == (20 + kept, objects)
    table = (tmp_path / "found" / "predictions.csv").read_text().splitlines()
    assert len(table) == 1 + objects


def test_a_picture_never_takes_the_place_of_an_image(darknet, data, command, tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes((data / "JPEGImages" / f"{name}.png").read_bytes())
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / "link").symlink_to(tmp_path)
    for out_folder in (".", "link"):
        code, _, err = command("predict", *darknet, f"--out={out_folder}", tmp_path)
        assert code == 2
        assert "a.png is one of the images: give another folder as --out" in err
    assert {path: path.read_bytes() for path in before} == before


def test_interrupted_it_leaves_what_it_has(darknet, data, command, tmp_path, monkeypatch):
    def some(*arguments, **options):
        yield next(predict(*arguments, **options))
        raise KeyboardInterrupt

    monkeypatch.setattr("jaxvision.cli.predict.predict", some)
    code, _, err = command("predict", *darknet, "--out=found", data / "JPEGImages")
    assert (code, err.splitlines()[-1]) == (130, "interrupted")
    result = json.loads((tmp_path / "found" / "predictions.json").read_text())
    assert [pathlib.Path(x["file"]).name for x in result["images"]] == ["a.png"]


def test_a_test_split_that_is_not_there_is_said_before_training(detector, command, tmp_path):
    arguments = [*detector.arguments, "--workdir=run"]
    code, _, err = command("train", *arguments, "--config.data.test_split=tset")
    assert code == 2
    assert "no split 'tset'" in err
    assert not (tmp_path / "run").exists()


def error_of(result):
    code, out, err = result
    assert code == 2
    assert out == ""
    (line,) = err.splitlines()
    return line.removeprefix("error: ")


def test_wrong_arguments_are_one_line(darknet, detector, data, command, tmp_path):
    image = data / "JPEGImages" / "a.png"
    cases = [
        ([*darknet, image], "no --out: give the folder"),
        ([*darknet, "--out=x"], "no images: give files, folders or patterns"),
        ([darknet[0], "--out=x", image], "no --weights: give the file or folder"),
        (
            [*darknet, f"--workdir={detector.folder}", "--out=x", image],
            "give either --workdir=DIR, or --model=NAME or --config=NAME with",
        ),
        (
            [*darknet, "--model=yolov2", "--out=x", image],
            "mine.weights describes has other layers than the model: conv0",
        ),
        (["--model=yolov2", darknet[1], "--out=x", image], "its description is needed: give --cfg"),
        (["--out=x", image], "give either --workdir=DIR, or --model=NAME or --config=NAME with"),
        ([*darknet, "--out=x", "--score=1.5", image], "--score is 1.5"),
        ([*darknet, "--out=x", "--batch_size=0", image], "--batch_size is 0"),
        ([*darknet, "--out=x", "nothing.png"], "'nothing.png': there is no such file or folder"),
        ([*darknet[:2], f"--names={image}", "--out=x", image], f"--names={image} cannot be read"),
        (
            [*darknet[:2], f"--names={darknet[0][6:]}", "--out=x", image],
            "the weights are for 2 classes, but there are 16",
        ),
        ([*darknet, "--out=x", "--top-k=0", image], "--top_k is 0"),
        (
            [*darknet, "--out=x", "--top-k=5", image],
            "--top_k is for classification, but the model is for detection: leave it out",
        ),
        ([*darknet, "--ouch=x", image], "Unknown command line flag 'ouch'"),
    ]
    for arguments, message in cases:
        assert message in error_of(command("predict", *arguments))
    assert not (tmp_path / "x").exists()


def test_help_tells_the_flags(command):
    code, out, _ = command("predict", "--help")
    assert code == 0
    assert "--score: detectors: least score of an object" in out
    assert out.count("--recursive") == 1
    assert "--cfg=yolov3.cfg" in out


@pytest.mark.long
def test_a_run_starts_from_the_weights_of_another(detector, command, tmp_path):
    config = [*detector.arguments, "--config.steps=1", "--config.augment.mosaic=0.5"]
    config += ["--config.data.sizes=(24,)", "--config.data.size_every=1"]
    start = [f"--config.init_from={detector.folder}", "--config.optimizer.learning_rate=1e-12"]
    code, _, err = command("train", *config, *start, "--workdir=new")
    assert code == 0
    assert f"are initialised from {detector.folder}, step 4" in err
    assert "; new: " not in err
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, atol=1e-6),
        *(restore_weights(x).variables["params"] for x in (tmp_path / "new", detector.folder)),
    )
    assert read_run(tmp_path / "new")["config"]["init_from"] == str(detector.folder)
    # Once it has begun, it does not need the other one any more.
    file = tmp_path / "new" / "run.json"
    file.write_text(file.read_text().replace(str(detector.folder), "gone"))
    code, _, err = command("train", *config, "--config.init_from=gone", start[1], "--workdir=new")
    assert code == 0, err
    assert "is finished (1 steps)" in err
    code, _, err = command("train", *config, "--config.init_from=nowhere", "--workdir=other")
    assert code == 2
    assert "no run in nowhere" in err


def test_a_classifier_names_its_classes_in_folders_patterns_and_grey_files(
    trained, colors, command, tmp_path
):
    new = tmp_path / "new"
    for folder, channels in (("", (0,)), ("deep/er", (2,)), ("deep/.hidden", (0, 1, 2))):
        image = np.zeros((32, 32, 3), np.uint8)
        image[..., channels] = 200
        (new / folder).mkdir(parents=True)
        Image.fromarray(image).save(new / folder / "a.png")
    Image.fromarray(image[..., 0]).save(new / "deep" / "grey.png")
    run = f"--workdir={trained('colors').folder}"
    for given, files in (
        ([new], ["a.png"]),
        (["-r", new], ["a.png", "deep/er/a.png", "deep/grey.png"]),
        (["new/**/*.png", "new/a.png"], ["a.png", "deep/er/a.png", "deep/grey.png"]),
    ):
        code, _, err = command("predict", run, "--out=found", "--top-k=2", *given)
        assert code == 0, err
        result = json.loads((tmp_path / "found" / "predictions.json").read_text())
        found = [(tmp_path / x["file"]).relative_to(new).as_posix() for x in result["images"]]
        assert sorted(found) == files
    code, _, err = command("predict", run, "--out=found", "--iou=1", new)
    assert code == 2
    assert "--iou is for detection, but the model is for classification: leave it out" in err
    pictures = [pathlib.Path(x["picture"]).name for x in result["images"]]
    assert sorted(pictures) == ["a.png", "a_2.png", "grey.png"]
    for entry in result["images"]:
        assert (
            entry["label"]
            == entry["classes"][0]["label"]
            == max(entry["probabilities"], key=entry["probabilities"].get)
        )
        assert sum(entry["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    table = (tmp_path / "found" / "predictions.csv").read_text().splitlines()
    assert table[0] == "file,frame,time,rank,label,score"
    assert [line.split(",")[3] for line in table[1:]] == ["1", "2"] * 3
    first = result["images"][0]["classes"][0]
    assert table[1].endswith(f",,,1,{first['label']},{first['score']}")
