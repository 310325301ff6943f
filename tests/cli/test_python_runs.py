"""Runs that were made in Python, by the commands: they say what they are, but not their data."""

import json
import pathlib

import flax.linen as nn
import numpy as np
import optax
import pytest

import jaxvision
from jaxvision import augment, data, tasks
from tests.cli.conftest import result_of
from tests.cli.test_errors import error_of


class Net(nn.Module):
    """A network without a name."""

    @nn.compact
    def __call__(self, images, *, train):
        return {"logits": nn.Dense(2)(images.mean((1, 2)))}


def fitted(folder, workdir, model):
    """Two steps on a folder of images by class; gives the numbers of its test part."""
    inputs = jaxvision.Inputs((16, 20), mean=(0.4,) * 3, std=(0.3,) * 3, resize="stretch")
    photos = data.ImageFolder(folder / "train")
    names = photos.class_names
    task = tasks.classification(model, inputs, class_names=names, augment=(augment.RandomFlip(),))
    example = data.ToClassification(inputs, len(names))
    train = data.TrainLoader(photos, example, batch_size=4, seed=0)
    test = data.EvalLoader(data.ImageFolder(folder / "test"), example, batch_size=4)
    usual = {"train": train, "validation": test, "steps": 2, "seed": 0, "workdir": workdir}
    result = jaxvision.fit(task, optax.adamw(1e-3), **usual, eval_every=2)
    return result.history[-1]["metrics"]


@pytest.fixture(scope="module")
def python_run(colors, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("python") / "run"
    model = jaxvision.create_model("resnet20", blocks=1, widths=(4,), num_classes=2)
    return workdir, fitted(colors, workdir, model)


def test_eval_measures_it_on_a_folder(python_run, colors, command):
    workdir, expected = python_run
    result, _ = result_of(command, "eval", f"--workdir={workdir}", f"--data={colors}")
    assert result["accuracy"] == pytest.approx(expected["accuracy"])
    assert (result["split"], result["steps"]) == ("test", 2)
    train = ["--split=train", "--source=folder"]
    result, _ = result_of(command, "eval", f"--workdir={workdir}", f"--data={colors}", *train)
    assert result["split"] == "train"


def test_predict_and_features_take_it(python_run, colors, command):
    workdir, _ = python_run
    files = sorted((colors / "test").rglob("*.png"))
    result, _ = result_of(command, "predict", f"--workdir={workdir}", "--out=found", *files)
    assert result == {"images": 6, "failed": 0, "out": "found"}
    entries = json.loads(pathlib.Path("found/predictions.json").read_text())["images"]
    run = jaxvision.load_run(workdir)
    for entry, own in zip(entries, jaxvision.predict(run.task, run.variables, files), strict=True):
        assert entry["label"] == own.result["label"] == max(
            entry["probabilities"], key=entry["probabilities"].get
        )  # fmt: skip
        assert sum(entry["probabilities"].values()) == pytest.approx(1, abs=1e-4)
        assert (entry["width"], entry["height"]) == (32, 32)
        assert pathlib.Path(entry["picture"]).is_file()
    usual = ["features", f"--workdir={workdir}", "--split=test", "--maps=pooled", "--out=a.npz"]
    result, _ = result_of(command, *usual, f"--data={colors}")
    assert result["images"] == 6
    assert np.load("a.npz")["labels"].tolist() == [0, 0, 0, 1, 1, 1]
    assert "give --data=FOLDER" in error_of(command(*usual))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "was made in Python and does not say what its data are: give --data=FOLDER"),
        (["--data=nowhere"], "config.data.dir is nowhere, which is not there: give the data's"),
        (
            ["--data=.", "--source=table"],
            "unknown data source 'table': known: cache, digits, folder",
        ),
        (["--data=.", "--split=test"], "there is no folder"),
    ],
)
def test_what_cannot_be_evaluated(python_run, command, arguments, message):
    error = error_of(command("eval", f"--workdir={python_run[0]}", *arguments))
    assert message in error


@pytest.mark.slow
def test_a_network_without_a_name_needs_python(colors, command, tmp_path):
    expected = fitted(colors, tmp_path / "run", Net())
    arguments = ["eval", "--workdir=run", f"--data={colors}"]
    error = error_of(command(*arguments))
    assert error.startswith("the task of the run in run cannot be built from its description: ")
    assert "Net" in error
    assert error.endswith("give load_run(..., task=...)")
    inputs = jaxvision.Inputs((16, 20), mean=(0.4,) * 3, std=(0.3,) * 3, resize="stretch")
    task = tasks.classification(Net(), inputs, class_names=("blue", "red"))
    run = jaxvision.load_run(tmp_path / "run", task=task)
    example = data.ToClassification(inputs, 2)
    test = data.EvalLoader(data.ImageFolder(colors / "test"), example, batch_size=4)
    assert jaxvision.evaluate(run.task, run.variables, test).metrics == expected


@pytest.mark.slow
def test_the_form_of_a_folder_of_boxes_is_found_out(trained, objects, command, tmp_path):
    """A run of the command line without its config is as one made in Python."""
    folder = trained("detection").folder
    expected = trained("detection").result
    run = json.loads((folder / "run.json").read_text())
    del run["config"]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(json.dumps(run))
    (tmp_path / "run" / "checkpoints").symlink_to(folder / "checkpoints")
    arguments = ["eval", "--workdir=run", "--split=train"]
    result, _ = result_of(command, *arguments, f"--data={objects}")
    numbers = expected.keys() - {"split", "state_digest"}
    assert {name: result[name] for name in numbers} == {name: expected[name] for name in numbers}
    error = error_of(command(*arguments, f"--data={tmp_path}"))
    assert error.startswith(f"--source is not given, and {tmp_path} fits no form for the split")
