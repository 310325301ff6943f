"""The detector of one's own that the documentation shows, by the commands and in Python."""

import itertools
import json
import pathlib

import numpy as np
import optax
import pytest

import jaxvision
from docs.own_detector import Net, centre_points
from jaxvision import augment, data, tasks
from jaxvision.data.sources.scenes import scenes
from tests.cli.conftest import result_of
from tests.cli.test_errors import error_of

ROOT = pathlib.Path(__file__).parents[2]
FILE = "docs/own_detector.py"
FEW = [
    "--config=docs/own_detector_config.py",
    "--config.steps=2",
    "--config.batch_size=4",
    "--config.eval_every=2",
    f"--config.model={{'name': '{FILE}:Net', 'widths': (8, 8, 8, 8)}}",
]


def check(command, train, workdir, images, monkeypatch):
    """Trains, evaluates and draws from the folder of the repository, as the config says."""
    monkeypatch.chdir(ROOT)
    result, err = result_of(command, "train", *train, f"--workdir={workdir}")
    assert result["steps"] == 2
    unused = "config.data.validation_fraction is 0: nothing is evaluated in training"
    assert (unused in err) == ("--config.data.validation_fraction=0.0" in train)
    assert 0 <= result["AP"] <= 1
    lines = [json.loads(x) for x in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert {"centre", "size", "loss"} <= lines[0].keys()
    usual = ["eval", f"--workdir={workdir}"]
    assert f"give --trust-code={FILE} if you trust it" in error_of(command(*usual))
    found, _ = result_of(command, *usual, f"--trust-code={FILE}")
    for name in ("AP", "AP50", "steps"):
        assert found[name] == result[name]
    out = workdir / "found"
    usual = ["predict", f"--workdir={workdir}", f"--out={out}", "--score=0.001", *images]
    assert "would run" in error_of(command(*usual))
    found, _ = result_of(command, *usual, f"--trust-code={ROOT / FILE}")
    assert found["images"] == len(images)
    assert found["objects"] > 0
    assert len(list(out.glob("*.png"))) == len(images)


@pytest.mark.slow
def test_on_a_folder(command, objects, tmp_path, monkeypatch):
    changes = {
        "source": "voc",
        "dir": objects,
        "test_split": "train",
        "class_names": "()",
        "image_size": 16,
    }
    train = [*FEW, *(f"--config.data.{key}={value}" for key, value in changes.items())]
    images = sorted((objects / "JPEGImages").iterdir())
    train.append("--config.data.validation_fraction=0.0")
    check(command, train, tmp_path / "run", images, monkeypatch)


@pytest.mark.long
def test_on_the_scenes(command, tmp_path, monkeypatch):
    train = [*FEW, f"--config.data.dir={tmp_path}"]
    image = np.array(next(scenes("test"))[0])
    jaxvision.predict.write_picture(tmp_path / "scene.png", image)
    check(command, train, tmp_path / "run", [tmp_path / "scene.png"], monkeypatch)


class FewScenes:
    """The first scenes, in memory."""

    class_names = tuple("0123456789")

    def __init__(self, count):
        self._scenes = list(itertools.islice(scenes("train"), count))

    def __len__(self):
        return len(self._scenes)

    def __getitem__(self, index):
        return {"image": self._scenes[index][0], **self.target(index)}

    def target(self, index):
        _, _, boxes, labels = self._scenes[index]
        none = np.zeros(len(labels), bool)
        return {
            "boxes": boxes.astype(np.float64),
            "labels": labels,
            "crowd": none,
            "difficult": none,
        }

    def where(self, index):
        return f"scene {index}"


@pytest.mark.slow
def test_in_python(tmp_path):
    source, inputs = FewScenes(8), jaxvision.Inputs((32, 32), resize="letterbox")
    detector = centre_points(Net(10, (8, 8, 8, 8)))
    hsv = augment.RandomHsv(hue=0.5, saturation=2.0)
    how = {"class_names": source.class_names, "augment": (hsv,)}
    task = tasks.detection(detector, inputs, **how)
    example = data.ToDetection(inputs, 10, max_boxes=8)
    train = data.TrainLoader(source, example, batch_size=4, seed=0)
    test = data.EvalLoader(source, example, batch_size=4)
    result = jaxvision.fit(
        task,
        optax.adamw(1e-3),
        train=train,
        validation=test,
        steps=2,
        seed=0,
        workdir=tmp_path / "run",
        best=jaxvision.Best("AP50"),
    )
    expected = result.history[-1]["metrics"]
    run = jaxvision.load_run(tmp_path / "run", task=task)
    assert jaxvision.evaluate(run.task, run.variables, test).metrics == expected
