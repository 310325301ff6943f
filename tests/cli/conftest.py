"""Commands run in this process, on data and runs that are made once for all files of tests."""

import contextlib
import functools
import io
import json
import pathlib
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from jaxvision.cli import anchors, check_data, report
from jaxvision.cli.main import run
from jaxvision.data import Digits
from jaxvision.engine import loop
from tests.data.folders import write_colors, write_voc

TESTS = pathlib.Path(__file__).parents[1]
TINY, TINY_DETECTOR = TESTS / "tiny_config.py", TESTS / "tiny_detector.py"


@pytest.fixture(scope="module", autouse=True)
def _without_curves():
    """The tests of the engine look at curves.png; to draw it takes a second.

    So do the figures of a classifier, at which test_class_report.py looks.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "draw_curves", lambda *_: None)
        patch.setattr(report, "draw_figures", lambda *_: None)
        yield


@pytest.fixture
def without_figures(monkeypatch):
    """`anchors` and `check-data` draw no figures, which takes a second each time."""
    for module in (anchors, check_data):
        monkeypatch.setattr(module, "_draw", lambda *_: None)
        monkeypatch.setattr(module, "save_picture", lambda *_: None)


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """The folder of the embedded digits, as --config.data.dir."""
    folder = tmp_path_factory.mktemp("digits")
    Digits("train", dir=folder)
    return folder


@pytest.fixture(scope="session")
def colors(tmp_path_factory):
    """A folder of images by class, red and blue, 32x32."""
    return write_colors(tmp_path_factory.mktemp("colors"), size=32)


@pytest.fixture(scope="session")
def objects(tmp_path_factory):
    """A folder of images with boxes in VOC's form."""
    return write_voc(tmp_path_factory.mktemp("objects") / "mine")


@pytest.fixture
def command(capsys, tmp_path, monkeypatch):
    """Runs a command in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(name, *arguments):
        capsys.readouterr()
        code = run(name, [name, *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out, err

    return call


class Trained(NamedTuple):
    """A finished run.

    Attributes:
      folder: of the run.
      arguments: of `train` that made it, but for --workdir.
      data: the folder of its data.
      result: that `train` printed.
      refused: what an attempt before it said, which failed before training.
    """

    folder: pathlib.Path
    arguments: list[str]
    data: pathlib.Path
    result: dict[str, float]
    refused: str = ""


CONFIG = """
from jaxvision.cli.config import default_config


def get_config():
    config = default_config({task!r})
    config.steps = config.eval_every = 2
    config.batch_size = 4
    config.data.source = "folder"
    config.data.test_split = "train"
    config.data.validation_fraction = 0.0
    {more}
    return config
"""
KINDS = {
    "colors": (
        "classification",
        """
    config.data.test_split, config.data.validation_fraction = "test", 0.2
    config.data.image_size = 32
    config.optimizer.learning_rate = 0.01""",
    ),
    "segmentation": (
        "segmentation",
        """
    config.data.image_size = 16
    config.data.class_names = ("nothing", "cat", "dog")
    config.model.widths = (4, 8)""",
    ),
    "landmarks": (
        "landmarks",
        """
    config.data.image_size = 16
    config.model.widths = (4, 8)
    config.augment.flip = 0.5
    config.augment.swap = (1, 0)""",
    ),
    "denoising": (
        "restoration",
        """
    config.data.image_size, config.data.patches = 8, 4
    config.data.tile, config.data.margin = 18, 8
    config.model.name, config.model.depth, config.model.width = "dncnn_s", 3, 4
    config.degradation.sigma = (25.0, 25.0)""",
    ),
    "srcnn": (
        "restoration",
        """
    config.data.image_size, config.data.patches = 9, 4
    config.data.tile, config.data.margin, config.data.color = 51, 24, "luminance"
    config.model.name, config.model.widths = "srcnn_915", (4, 4)
    config.degradation.name, config.degradation.factor = "downscale_upscale", 3""",
    ),
    "espcn": (
        "restoration",
        """
    config.data.image_size, config.data.patches = 9, 4
    config.data.tile = 60
    config.model.name, config.model.widths = "espcn", (4, 4)
    config.degradation.name = "downscale"
    config.degradation.protocol, config.degradation.factor = "srcnn", 3""",
    ),
}
KINDS["whole"] = "segmentation", KINDS["segmentation"][1] + '\n    config.data.resize = "letterbox"'
SIZES = {"a": (16, 16), "b": (16, 16)}


@pytest.fixture(scope="session")
def dense(tmp_path_factory):
    """A folder of images, masks and landmarks, and in `new` other images, of other sizes."""
    folder = tmp_path_factory.mktemp("dense")
    rng = np.random.default_rng(0)
    for part in ("images/train", "masks/train", "landmarks", "train", "new"):
        (folder / part).mkdir(parents=True)
    lines = ["image,left_x,left_y,right_x,right_y"]
    for name, size in SIZES.items():
        image = Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8))
        image.save(folder / "images" / "train" / f"{name}.png")
        image.save(folder / "train" / f"{name}.png")
        mask = Image.fromarray(rng.integers(0, 3, size, np.uint8))
        mask.save(folder / "masks" / "train" / f"{name}.png")
        lines.append(f"{name}.png,3,4,12,5")
    (folder / "landmarks" / "train.csv").write_text("\n".join(lines) + "\n")
    for name, size in {"wide": (11, 40), "high": (23, 9)}.items():
        image = Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8))
        image.save(folder / "new" / f"{name}.png")
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory, request):
    """Makes a run of a kind, a key of `KINDS` or "detection", when it is first asked for."""
    runs = {}

    def make(kind):
        folder = tmp_path_factory.mktemp(kind)
        if kind == "detection":
            config, data = TINY_DETECTOR, request.getfixturevalue("objects")
        else:
            data = request.getfixturevalue("colors" if kind == "colors" else "dense")
            task, more = KINDS[kind]
            config = folder / "mine.py"
            config.write_text(CONFIG.format(task=task, more=more))
        arguments = [f"--config={config}", f"--config.data.dir={data}"]
        workdir = folder / "run"
        train = ["train", *arguments, f"--workdir={workdir}"]
        refused = io.StringIO()
        if kind == "colors":
            with contextlib.redirect_stderr(refused):
                assert run("train", [*train, "--config.best.metric=acuracy"]) == 2
            assert not (workdir / "metrics.jsonl").exists()
        with contextlib.redirect_stdout(io.StringIO()) as out:
            assert run("train", train) == 0
        result = json.loads(out.getvalue().splitlines()[-1])
        return Trained(workdir, arguments, data, result, refused.getvalue())

    def get(kind):
        if kind not in runs:
            runs[kind] = make(kind)
        return runs[kind]

    return get


@pytest.fixture(scope="session")
def evaluated(trained):
    """What `eval` prints of a run of a kind, as `trained`: (the result, its messages).

    The split of a detector is given by its path.
    """

    @functools.cache
    def get(kind):
        out, err = io.StringIO(), io.StringIO()
        arguments = ["eval", f"--workdir={trained(kind).folder}"]
        arguments += ["--split=../mine/train"] * (kind == "detection")
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            assert run("eval", arguments) == 0
        return json.loads(out.getvalue().splitlines()[-1]), err.getvalue()

    return get


def result_of(command, *arguments, code=0):
    """(the result, what is said on stderr) of a command that ends with a code."""
    found, out, err = command(*arguments)
    assert found == code, err
    return json.loads(out.splitlines()[-1]), err
