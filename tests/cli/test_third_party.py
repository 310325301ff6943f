"""`predict`, `eval` and `features` with third-party weights give the figures of the Python API."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from PIL import Image

import jaxvision
from jaxvision import data, tasks
from jaxvision.cli.kinds import KINDS
from jaxvision.engine import state_digest
from jaxvision.features import read_features
from jaxvision.interop import KeyRules, to_state_dict, write_state_dict
from jaxvision.models import create_model
from jaxvision.predict import predict
from tests.cli.conftest import result_of
from tests.models.variables import random_variables

NORMAL = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.25, 0.3)}
SIGMA = {"sigma": (25.0, 25.0)}


class Case(NamedTuple):
    """A network whose weights are spelled as a third party spells them.

    Attributes:
      fields: of the model.
      channels: of its images.
      spelling: rules from our keys to the third party's.
      key_map: those back.
      flags: of all three commands.
      task: (model) -> the same task, made in Python.
      source: (data of the test, task) -> the records that are evaluated.
      map: whose features are compared.
    """

    fields: dict[str, Any]
    channels: int
    spelling: list[tuple[str, str]]
    key_map: str
    flags: list[str]
    task: Callable[[Any], Any]
    source: Callable[[Any, Any], Any]
    map: str


def _restoration(size, *, degradation, name, tile):
    def make(model):
        how = {"loss": None, "tile": tile, **tasks.protocol(name, degradation)}
        return tasks.restoration(model, jaxvision.Inputs((size, size)), **how)

    return make


def _tiles(folders, task):
    photographs = data.Photographs(folders["dense"], "train")
    how = {"margin": task.margin, "modcrop": task.modcrop, "border": task.border}
    return data.Tiles(photographs, size=task.tile, **how)


CASES = {
    "resnet20": Case(
        fields={"blocks": 1, "widths": (4, 8)},
        channels=3,
        spelling=[("layer*.*", "stages.*.block*"), ("fc", "head.linear")],
        key_map="stages.*.block*=layer*.*,head.linear=fc",
        flags=[f"--config.data.{key}={value}" for key, value in NORMAL.items()],
        task=lambda model: tasks.classification(
            model,
            jaxvision.Inputs((32, 32), resize="crop", **NORMAL),
            class_names=("blue", "red"),
            loss=None,
        ),
        source=lambda folders, task: data.ImageFolder(folders["colors"] / "test"),
        map="c2",
    ),
    "unet": Case(
        fields={"widths": (4, 8)},
        channels=3,
        spelling=[("encoder*", "down*.conv"), ("decoder*", "up*.conv"), ("head", "outc.conv")],
        key_map="down*.conv=encoder*,up*.conv=decoder*,outc.conv=head",
        flags=["--config.data.image_size=16"],
        task=lambda model: tasks.segmentation(
            model, jaxvision.Inputs((16, 16)), class_names=("0", "1", "2"), loss=None
        ),
        source=lambda folders, task: data.MaskFolder(
            folders["dense"], "train", class_names=task.class_names
        ),
        map="c1",
    ),
    "dncnn_s": Case(
        fields={"depth": 2, "width": 4},
        channels=1,
        spelling=[("conv1", "0"), ("conv2", "2")],
        key_map="0=conv1,2=conv2",
        flags=[
            *("--config.data.image_size=16", "--config.data.tile=16"),
            "--config.degradation.sigma=(25.0, 25.0)",
        ],
        task=_restoration(16, degradation=tasks.GaussianNoise(**SIGMA), name="dncnn", tile=16),
        source=_tiles,
        map="residual",
    ),
    "srcnn_915": Case(
        fields={"widths": (4, 4)},
        channels=1,
        spelling=[("conv*", "layers.conv_*")],
        key_map="layers.conv_*=conv*",
        flags=["--config.data.image_size=18", "--config.data.tile=60"],
        task=_restoration(18, degradation=tasks.DownscaleUpscale(3), name="srcnn", tile=60),
        source=_tiles,
        map="image",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(dense, colors):
    return {"dense": dense, "colors": colors}


@pytest.mark.parametrize(
    "name",
    ["resnet20", *(pytest.param(x, marks=pytest.mark.slow) for x in CASES if x != "resnet20")],
)
def test_the_commands_give_the_figures_of_python(name, folders, command, tmp_path):
    case = CASES[name]
    classes = {} if case.channels == 1 else {"num_classes": 3 if name == "unet" else 2}
    model = create_model(name, **case.fields, **classes)
    variables = random_variables(model, np.zeros((1, 32, 32, case.channels), np.float32))
    respell = KeyRules(case.spelling)
    theirs = {f"net.{respell(key)}": x for key, x in to_state_dict(variables).items()}
    write_state_dict(tmp_path / "theirs.npz", theirs)
    task = case.task(model)
    usual = [f"--model={name}", "--weights=theirs.npz", "--prefix=net."]
    usual += [f"--key-map={case.key_map}", *case.flags]
    usual += [f"--config.model.{key}={value}" for key, value in case.fields.items()]

    source = case.source(folders, task)
    records = [f"--data={folders['dense']}", "--split=train"]
    names = []
    if name == "resnet20":  # only the part that is evaluated is there
        (tmp_path / "only").mkdir()
        (tmp_path / "only" / "val").symlink_to(folders["colors"] / "test")
        (tmp_path / "names.txt").write_text("sea\nfire\n")
        records, names = ["--data=only", "--split=val"], ["--names=names.txt"]
    evaluate = ["eval", *usual, *records, *names, "--out=report"]
    whole = "--config.data.validation_fraction=0.0"
    result, _ = result_of(command, *evaluate, whole, "--config.batch_size=4")
    transform = KINDS[task.kind].transform(task)
    expected = jaxvision.evaluate(task, variables, data.EvalLoader(source, transform, batch_size=4))
    for key, value in expected.metrics.items():
        assert result[key] == pytest.approx(value, rel=1e-6), key
    assert result["variables_digest"] == state_digest(variables)
    assert any((tmp_path / "report").iterdir())
    if name == "resnet20":
        table = (tmp_path / "report" / "classes_val.csv").read_text().splitlines()
        assert [line.partition(",")[0] for line in table] == ["class", "sea", "fire"]
        result_of(command, "features", *usual, *records, "--maps=c2", "--out=b.npz")
        assert read_features(tmp_path / "b.npz").class_names == ("blue", "red")

    size = task.inputs.size[0]
    image = np.random.default_rng(1).integers(0, 256, (size, size, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "one.png")
    result_of(command, "predict", *usual, "--out=found", "one.png")
    (entry,) = json.loads((tmp_path / "found" / "predictions.json").read_text())["images"]
    (found,) = predict(task, variables, ["one.png"])
    if name == "resnet20":
        shown = {x["label"]: x["score"] for x in entry["classes"]}
        probabilities = dict(zip(("0", "1"), found.result["probabilities"], strict=True))
        assert shown == pytest.approx(probabilities, abs=1e-5)
    else:
        picture = "labels/one.png" if name == "unet" else "one.png"
        with Image.open(tmp_path / "found" / picture) as written:
            np.testing.assert_array_equal(np.asarray(written), found.result)

    result_of(command, "features", *usual, f"--maps={case.map}", "--out=a.npz", "one.png")
    rows = read_features(tmp_path / "a.npz").maps[case.map]
    network_input = task.prepare if task.kind != "restoration" else tasks.undegraded(task).prepare
    batch = jaxvision.core.ImageBatch(image=image, mask=np.True_)
    given = network_input(batch).image[None]
    maps = jax.jit(lambda x: model.apply(variables, x, train=False))(given)
    np.testing.assert_allclose(rows, np.asarray(maps[case.map]).mean((1, 2)), atol=1e-5)
