"""The recipes for ImageNet, on a few JPEGs in its layout."""

import json

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder as ImageNet's, of two classes and images of many sizes."""
    folder, rng = tmp_path_factory.mktemp("imagenet"), np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 3)):
        for name in ("n01440764", "n01443537"):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (*rng.integers(70, 200, 2), 3), np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{number}.JPEG")
    return folder


SMALL = {"name": "resnet50", "blocks": (1, 1, 1, 1), "widths": (8, 8, 8, 8)}
RECIPES = {"imagenet_resnet50": {}, "imagenet_resnet50_bfloat16": {"dtype": "bfloat16"}}


@pytest.mark.long
@pytest.mark.parametrize("name", RECIPES)
def test_a_step_of_the_recipe(command, images, name):
    model = {**SMALL, **RECIPES[name], "zero_init_residual": True}
    code, out, err = command(
        "train",
        f"--config={name}",
        f"--config.model={model}",
        f"--config.data.dir={images}",
        "--config.data.num_classes=2",
        "--config.data.validation_fraction=0.25",
        "--config.data.image_size=64",
        "--config.data.shorter_side=72",
        "--config.data.workers=0",
        "--config.batch_size=4",
        "--config.steps=1",
        "--workdir=run",
    )
    assert code == 0, err
    result = json.loads(out.splitlines()[0])
    assert result["split"] == "test"
    assert result["steps"] == 1
    assert 0 <= result["accuracy"] <= 1
    code, out, err = command("eval", "--workdir=run")
    assert code == 0, err
    assert json.loads(out.splitlines()[0])["accuracy"] == result["accuracy"]
