"""The configs of full-size detectors make a step of training with a small backbone."""

import json

import numpy as np
import pytest
from PIL import Image

from jaxvision.data import COCO_CLASSES
from tests.data.folders import write_voc
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


def write_coco(folder, splits, sizes=((96, 128), (128, 80), (90, 120), (100, 100))):
    """A folder in COCO's form with an object in each image, of the first and the last class."""
    rng = np.random.default_rng(0)
    categories = [{"id": i, "name": name} for i, name in enumerate(COCO_CLASSES, start=1)]
    (folder / "annotations").mkdir(parents=True)
    for split in splits:
        (folder / split).mkdir()
        images, objects = [], []
        for number, (height, width) in enumerate(sizes):
            pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
            Image.fromarray(pixels).save(folder / split / f"{number}.png")
            images.append(
                {"id": number, "file_name": f"{number}.png", "height": height, "width": width}
            )
            box = [10, 20, 40, 30]
            objects.append(
                {
                    "id": number,
                    "image_id": number,
                    "category_id": categories[-(number % 2)]["id"],
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
        content = {"images": images, "annotations": objects, "categories": categories}
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("name", long_but(SMALLER, [], ["coco_retinanet"]))
def test_a_step_of_training(command, tmp_path, name):
    if name.startswith("coco"):
        data = (f"--config.data.dir={write_coco(tmp_path / 'coco', ('train2017', 'val2017'))}",)
    else:
        data = (
            f"--config.data.dir={write_voc(tmp_path / 'voc')}",
            "--config.data.train_split=train",
            "--config.data.test_split=train",
        )
    code, out, err = command(
        "train",
        f"--config={name}",
        f"--workdir={tmp_path / 'run'}",
        *SMALLER[name],
        *data,
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
