"""Published weights by their names, on the command line."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jaxvision
from jaxvision.data import EvalLoader, ImageFolder, ToClassification
from jaxvision.engine import state_digest
from tests.cli.conftest import result_of
from tests.interop.published import serving_weights
from tests.models.variables import random_variables

MODEL = "resnet20"
NAME = "--weights=resnet20:IMAGENET1K_V1"


@pytest.fixture(scope="module")
def variables():
    model = jaxvision.create_model(MODEL, num_classes=2)
    return jax.device_get(random_variables(model, jnp.zeros((1, 32, 32, 3))))


@pytest.fixture(autouse=True)
def _served(tmp_path, monkeypatch, variables):
    with serving_weights(monkeypatch, tmp_path / "cache", MODEL, variables):
        yield


@pytest.mark.parametrize("weights", [[NAME], [f"--model={MODEL}", "--weights=DEFAULT"]])
def test_eval_prepares_images_as_published(weights, command, colors, tmp_path):
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "val").symlink_to(colors / "test")
    result, log = result_of(command, "eval", *weights, "--data=only", "--split=val", "--out=report")
    found = jaxvision.load_pretrained(MODEL)
    task = jaxvision.tasks.classification(
        found.model, found.inputs, class_names=found.class_names, loss=None
    )
    source = ImageFolder(colors / "test")
    loader = EvalLoader(source, ToClassification(task.inputs, 2), batch_size=4)
    expected = jaxvision.evaluate(task, found.variables, loader)
    for key, value in expected.metrics.items():
        assert result[key] == pytest.approx(value, rel=1e-6), key
    assert result["variables_digest"] == state_digest(found.variables)
    assert "weights: resnet20:IMAGENET1K_V1; images of 32 x 32 pixels, cut out" in log
    table = (tmp_path / "report" / "classes_val.csv").read_text().splitlines()
    assert [line.partition(",")[0] for line in table] == ["class", "sea", "fire"]


def test_predict_convert_and_features(command, tmp_path, variables):
    image = np.random.default_rng(1).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "one.png")
    result_of(command, "predict", NAME, "--out=found", "one.png")
    (entry,) = json.loads((tmp_path / "found" / "predictions.json").read_text())["images"]
    assert {x["label"] for x in entry["classes"]} == {"sea", "fire"}
    result_of(command, "features", NAME, "--out=one.npz", "one.png")
    result_of(command, "convert", NAME, "weights")
    model = jaxvision.create_model(MODEL, num_classes=2)
    back = jaxvision.load_weights(model, tmp_path / "weights")
    jax.tree.map(np.testing.assert_array_equal, back, variables)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--weights=resnet20:V7"], "resnet20 has no weights 'V7': known: DEFAULT"),
        (["--model=resnet20", "--weights=V7"], "resnet20 has no weights 'V7'"),
        (["--weights=resnet999:DEFAULT"], "resnet999.*did you mean"),
        (["--model=lenet5", NAME], "are those of resnet20, but --model is lenet5"),
        (["--weights=lenet5:DEFAULT"], "no weights of lenet5 are published by name"),
    ],
)
def test_names_that_are_not_there(command, flags, message):
    code, _, err = command("predict", *flags, "--out=found", "one.png")
    assert code == 2
    assert re.search(message, err)


def test_classes_that_the_data_do_not_have(command, colors, tmp_path):
    (tmp_path / "three").mkdir()
    for name in "abc":
        (tmp_path / "three" / "val" / name).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(tmp_path / "three" / "val" / name / "x.png")
    code, _, err = command("eval", NAME, "--data=three", "--split=val", "--out=report")
    assert code == 2
    assert "resnet20:IMAGENET1K_V1 are for 2 classes, but there are 3 (a, b, c)" in err


def test_models_lists_them(command):
    code, out, _ = command("models", "--weights")
    assert code == 0
    assert "resnet20:IMAGENET1K_V1*" in out
    code, out, _ = command("models", "--weights", "--json", "resnet*")
    assert [row["class_names"] for row in json.loads(out)] == [["sea", "fire"]]
    code, _, err = command("models", "--weights", "lenet5")
    assert (code, "no weights of these networks" in err) == (2, True)
