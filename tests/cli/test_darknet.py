"""Detectors in Darknet's format on the command line: evaluated, fine-tuned, and predicting."""

import json
import re
import signal

import jax
import numpy as np
import pytest

from jaxvision.cli import train
from jaxvision.core import Inputs
from jaxvision.data import EvalLoader, ToDetection, VocFolder
from jaxvision.engine import evaluate
from jaxvision.interop import (
    DarknetNetwork,
    load_weights,
    read_cfg,
    read_weights,
    to_module,
    write_weights,
)
from jaxvision.models import create_model
from jaxvision.tasks import detection
from jaxvision.tasks.detectors import darknet
from tests.cli.conftest import result_of
from tests.cli.test_errors import error_of
from tests.data.folders import write_voc
from tests.models.variables import random_variables

pytestmark = pytest.mark.slow

NET = "[net]\nheight=32\nwidth=32\nchannels=3\n"
TRUNK = "[conv]\nbatch_normalize=1\nfilters=8\nsize=3\nstride=2\npad=1\nactivation=leaky\n"
HEAD = (
    "[conv]\nfilters={}\nsize=3\nstride=4\npad=1\nactivation=linear\n"
    "[region]\nanchors=1,1,2,1.5\nnum=2\nclasses={}\ncoords=4\nsoftmax=1\n"
)


def write(folder, classes, extra=""):
    """Writes a description and random weights; their flags."""
    cfg = folder / f"of{classes}.cfg"
    cfg.write_text(NET + TRUNK + HEAD.format(2 * (5 + classes), classes) + extra)
    description = read_cfg(cfg)
    images = np.zeros((1, 32, 32, 3), np.float32)
    variables = random_variables(DarknetNetwork(description), images)
    write_weights(cfg.with_suffix(".weights"), description, variables)
    return cfg, cfg.with_suffix(".weights")


def test_an_evaluation_has_the_numbers_of_the_python_metrics(command, tmp_path):
    data = write_voc(tmp_path / "data")
    cfg, weights = write(tmp_path, 2)
    flags = [f"--cfg={cfg}", f"--weights={weights}", f"--data={data}", "--split=train"]
    found, err = result_of(command, "eval", *flags)
    assert "by letterbox" in err
    description = read_cfg(cfg)
    inputs = Inputs((32, 32), resize="letterbox")
    task = detection(darknet(DarknetNetwork(description)), inputs, class_names=("cat", "dog"))
    source = VocFolder(data, "train")
    loader = EvalLoader(source, ToDetection(inputs, 2), batch_size=4)
    expected = evaluate(task, read_weights(weights, description), loader).metrics
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    stretched, err = result_of(command, "eval", *flags, "--resize=stretch")
    assert "by stretch" in err
    assert stretched.keys() == found.keys()


def test_it_is_fine_tuned_for_other_classes_and_predicts(command, tmp_path):
    data = write_voc(tmp_path / "data")
    cfg, weights = write(tmp_path, 5)
    config = tmp_path / "fine_tune.py"
    config.write_text(
        "from jaxvision.cli.config import default_config\n"
        "def get_config():\n"
        "    config = default_config('detection')\n"
        "    config.model.name = 'darknet'\n"
        f"    config.model.cfg = {str(cfg)!r}\n"
        f"    config.init_from = {str(weights)!r}\n"
        "    config.steps = config.eval_every = 2\n"
        "    config.batch_size = 4\n"
        f"    config.data.update(source='voc', dir={str(data)!r}, test_split='train')\n"
        "    config.data.update(validation_fraction=0.0, image_size=32, max_boxes=4)\n"
        "    return config\n"
    )
    usual = [f"--config={config}", f"--workdir={tmp_path / 'run'}"]
    trained, err = result_of(command, "train", *usual)
    assert "new: conv1" in err
    # The run needs neither the description nor the weights any more.
    cfg.unlink()
    weights.unlink()
    run = f"--workdir={tmp_path / 'run'}"
    found, _ = result_of(command, "eval", run, f"--out={tmp_path / 'out'}")
    assert found["AP"] == trained["AP"]
    predicted, _ = result_of(
        command, "predict", run, f"--out={tmp_path / 'out'}", "--score=0", data / "JPEGImages"
    )
    assert predicted["images"] == 3
    entries = json.loads((tmp_path / "out" / "predictions.json").read_text())["images"]
    labels = {each["label"] for entry in entries for each in entry["detections"]}
    assert labels <= {"cat", "dog"}


def test_a_folder_and_flags_alone_fine_tune(command, tmp_path, monkeypatch, real_data):
    """Photographs of blood: three classes from the weights for five, stopped and resumed."""
    cfg, weights = write(tmp_path, 5)
    (tmp_path / "names.txt").write_text("Platelets\nRBC\nWBC\n")
    flags = [
        *(f"--cfg={cfg}", f"--weights={weights}", f"--data={real_data / 'bccd'}"),
        *("--names=names.txt", "--resize=stretch", "--config.steps=30", "--config.eval_every=15"),
        *(
            "--config.log_every=10",
            "--config.batch_size=4",
            "--config.data.train_split=val",
            "--config.data.test_split=val",
        ),
    ]
    whole, err = result_of(command, "train", *flags, "--workdir=whole")
    assert "new: conv1/bias, conv1/kernel" in err

    def stopping(line):
        if line.startswith("step 20/30"):
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(train, "log", stopping)
        code, out, _ = command("train", *flags, "--workdir=stopped")
    assert (code, out) == (143, "")
    resumed, _ = result_of(command, "train", *flags, "--workdir=stopped")
    assert resumed == whole
    found, _ = result_of(command, "eval", "--workdir=stopped", "--out=out")
    assert {name: found[name] for name in whole if name in found} == {
        name: x for name, x in whole.items() if name in found
    }
    # For Darknet, with a description for three classes.
    result_of(command, "convert", f"--cfg={cfg}", "--weights=stopped", "mine.weights")
    mine = read_cfg("mine.cfg")
    assert mine.heads()[0].num_classes == 3
    read_weights("mine.weights", mine)
    flags = [
        "--cfg=mine.cfg",
        "--weights=mine.weights",
        "--resize=stretch",
        flags[2],
        "--split=val",
    ]
    again, _ = result_of(command, "eval", *flags)
    assert {name: again[name] for name in ("AP", "AP50")} == {
        name: whole[name] for name in ("AP", "AP50")
    }


def test_files_of_darknet_fill_a_network_of_the_library_and_come_back(command, tmp_path, real_data):
    cfg = real_data / "darknet" / "cfg_alexeyab" / "yolov4-tiny.cfg"
    description = read_cfg(cfg)
    variables = random_variables(DarknetNetwork(description), np.zeros((1, 64, 64, 3), "f4"))
    write_weights(tmp_path / "tiny.weights", description, variables)
    chosen = ["--model=yolov4_tiny", f"--cfg={cfg}"]
    result_of(command, "convert", *chosen, "--weights=tiny.weights", "tiny.safetensors")
    model = create_model("yolov4_tiny", num_classes=80)
    ours = load_weights(model, tmp_path / "tiny.safetensors")
    expected = to_module(variables, jax.tree.map(np.zeros_like, ours))
    jax.tree.map(np.testing.assert_array_equal, ours, expected)
    result_of(command, "convert", *chosen, "--weights=tiny.safetensors", "back.weights")
    assert (tmp_path / "back.weights").read_bytes() == (tmp_path / "tiny.weights").read_bytes()
    message = error_of(
        command("convert", "--model=yolov4_tiny", "--weights=tiny.safetensors", "no.weights")
    )
    assert "no.weights is a file of Darknet: give the description by --cfg=FILE" in message
    # For two classes.
    data = write_voc(tmp_path / "data")
    flags = [f"--config.init_cfg={cfg}", "--weights=tiny.weights", f"--data={data}"]
    config = tmp_path / "config.py"
    config.write_text(FINE_TUNE)
    _, err = result_of(command, "train", f"--config={config}", *flags, "--workdir=run")
    assert re.search("new: (.*)", err)[1].count("conv") == 4  # the last one of each head
    flags = [*flags[1:], "--config.data.validation_fraction=0.5", "--workdir=other"]
    message = error_of(command("train", f"--config={config}", *flags))
    assert "give --cfg=FILE, or config.init_cfg in training" in message


FINE_TUNE = """
from jaxvision.cli.config import default_config


def get_config():
    config = default_config("detection")
    config.model.name = "yolov4_tiny"
    config.anchors = ((4, 4), (6, 6), (8, 8), (10, 10), (16, 16), (20, 20))
    config.steps, config.batch_size, config.eval_every = 1, 4, 1
    config.data.update(source="voc", test_split="train", validation_fraction=0.0, image_size=32)
    return config
"""


def test_what_does_not_fit_is_said(command, tmp_path):
    data = write_voc(tmp_path / "data")
    cfg, weights = write(tmp_path, 5)
    flags = [f"--weights={weights}", f"--data={data}", "--split=train"]
    error = error_of(command("eval", f"--cfg={cfg}", *flags))
    assert "the weights are for 5 classes, but there are 2 (cat, dog)" in error
    assert "its description is needed: give --cfg" in error_of(
        command("eval", "--model=yolov2", *flags)
    )
    wide = tmp_path / "wide.cfg"
    wide.write_text(cfg.read_text().replace("width=32", "width=64"))
    assert "only square ones are supported" in error_of(command("eval", f"--cfg={wide}", *flags))


def test_descriptions_are_changed_for_other_classes(tmp_path):
    cfg, _ = write(tmp_path, 5)
    description = read_cfg(cfg)
    changed = description.with_classes(2)
    assert changed.heads()[0].num_classes == 2
    assert changed.sizes()[1].channels == 14
    assert description.with_classes(5) is description
    before, after = (
        jax.tree.leaves(
            jax.eval_shape(
                lambda d=d: DarknetNetwork(d).init(
                    jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32), train=False
                )
            )
        )
        for d in (description, changed)
    )
    assert sum(x.size for x in before) - sum(x.size for x in after) == 6 * (8 * 9 + 1)


def test_a_detector_in_a_tree_finds_its_files(command, tmp_path):
    """Classes of its map, or all nodes; read from the folder of the description."""
    data = write_voc(tmp_path / "data")
    (tmp_path / "a.tree").write_text("animal -1\nthing -1\ncat 0\ndog 0\n")
    (tmp_path / "a.map").write_text("2\n3\n")
    cfg, weights = write(tmp_path, 4, "tree=a.tree\nmap=a.map\n")
    flags = [f"--cfg={cfg}", f"--weights={weights}", f"--data={data}", "--split=train"]
    found, _ = result_of(command, "eval", *flags)
    description = read_cfg(cfg)
    inputs = Inputs((32, 32), resize="letterbox")
    task = detection(darknet(DarknetNetwork(description)), inputs, class_names=("cat", "dog"))
    loader = EvalLoader(VocFolder(data, "train"), ToDetection(inputs, 2), batch_size=4)
    expected = evaluate(task, read_weights(weights, description), loader).metrics
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    (tmp_path / "a.map").unlink()
    message = error_of(command("eval", *flags))
    assert "names the file a.map, which is not there" in message
