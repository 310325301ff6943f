"""Fast R-CNN on the command line: a file of proposals beside the data."""

import json

import numpy as np
import pytest

from jaxvision.cli.config import default_config
from jaxvision.cli.kinds.detection import _check_proposals
from jaxvision.cli.kinds.detection_data import DetectionData, _with_proposals
from jaxvision.core import OptionError
from jaxvision.data import CocoFolder, write_proposals
from jaxvision.models import create_model
from jaxvision.tasks.detectors import fast_rcnn, faster_rcnn
from tests.data.test_folders import WRITERS
from tests.tasks.test_two_stage import TINY


def halves(image):
    height, width = image.shape[:2]
    return np.array([[0, 0, width, height / 2], [0, height / 2, width, height]])


def test_the_name_of_the_file_has_the_split(tmp_path):
    folder = WRITERS["coco 0"](tmp_path / "data")
    source = CocoFolder(folder, "train")
    write_proposals(tmp_path / "mine_train.npz", source, halves)
    options = DetectionData(proposals=f"{tmp_path}/mine_{{split}}.npz", test_split="train")
    for split in ("train", "test"):
        assert _with_proposals(source, options, split)[0]["proposals"].shape == (2, 4)
    assert _with_proposals(source, DetectionData(), "train") is source


def test_the_data_and_the_detector_must_agree():
    given = create_model("fast_rcnn", **{**TINY, "anchor_sizes": None})
    own = faster_rcnn(create_model("faster_rcnn", **TINY), loss=None)
    with pytest.raises(OptionError, match=r"^config.data.proposals is not set, but the detector"):
        _check_proposals(DetectionData(), fast_rcnn(given, loss=None))
    with pytest.raises(OptionError, match=r"^config.data.proposals has no effect"):
        _check_proposals(DetectionData(proposals="a.npz"), own)
    with pytest.raises(OptionError, match="max_proposals is 0"):
        DetectionData(max_proposals=0)
    assert default_config("detection").data.max_proposals == 2000


CONFIG = """
from jaxvision.cli.config import default_config

def get_config():
    config = default_config("detection")
    config.model.name = "fast_rcnn"
    config.model.backbone = "resnet18"
    config.data.source = "coco"
    return config
"""


@pytest.mark.slow
def test_training_and_evaluation(command, tmp_path):
    folder = WRITERS["coco 0"](tmp_path / "data")
    write_proposals(tmp_path / "train.npz", CocoFolder(folder, "train"), halves)
    (tmp_path / "config.py").write_text(CONFIG)
    code, out, err = command(
        "train",
        f"--config={tmp_path / 'config.py'}",
        f"--workdir={tmp_path / 'run'}",
        f"--config.data.dir={folder}",
        *("--config.data.train_split=train", "--config.data.test_split=train"),
        f"--config.data.proposals={tmp_path}/{{split}}.npz",
        *("--config.data.max_proposals=3", "--config.data.image_size=64"),
        *("--config.steps=1", "--config.eval_every=1", "--config.batch_size=4"),
        *("--config.data.validation_fraction=0", "--config.data.workers=0"),
    )
    assert code == 0, err
    assert json.loads(out)["steps"] == 1
    code, out, err = command("eval", f"--workdir={tmp_path / 'run'}")
    assert code == 0, err
    assert 0 <= json.loads(out)["AP"] <= 1
