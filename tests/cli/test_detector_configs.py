"""The configs of full-size detectors make a step of training with a small backbone."""

import json

import numpy as np
import pytest

from tests.data.test_folders import WRITERS
from tests.marks import long_but

PYRAMID = (
    "--config.model.backbone=resnet18",
    "--config.data.shorter_side=64",
    "--config.data.longer_side=128",
)
SSD = (
    "--config.model.name=ssd",
    "--config.model.backbone=resnet18",
    "--config.init_key_map=()",
)
SMALLER = {
    "coco_retinanet": PYRAMID,
    "coco_retinanet_v2": (*PYRAMID, "--config.data.sizes=(48, 64)"),
    "coco_fcos": PYRAMID,
    "coco_ssd300": SSD,
    "voc_ssd300": SSD,
    "coco_ssdlite320": (
        "--config.model.name=ssdlite",
        "--config.model.backbone=mobilenet_v3_small",
    ),
}


@pytest.mark.parametrize("name", long_but(SMALLER, [], ["coco_retinanet"]))
def test_a_step_of_training(command, tmp_path, name):
    folder = WRITERS["coco 0" if name.startswith("coco") else "voc"](tmp_path / "data")
    code, out, err = command(
        "train",
        f"--config={name}",
        f"--workdir={tmp_path / 'run'}",
        *SMALLER[name],
        f"--config.data.dir={folder}",
        *("--config.data.train_split=train", "--config.data.test_split=train"),
        "--config.data.class_names=()",  # those of the folder
        *("--config.steps=1", "--config.eval_every=1", "--config.batch_size=4"),
        *("--config.data.validation_fraction=0", "--config.data.workers=0"),
        "--config.optimizer.schedule.warmup=0",
    )
    assert code == 0, err
    result = json.loads(out)
    assert result["steps"] == 1
    assert 0 <= result["AP"] <= 1
    (line,) = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert np.isfinite(json.loads(line)["loss"])
