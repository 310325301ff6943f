"""From a config to the pieces that the engine takes."""

import json
import os
import types

import numpy as np
import pytest

from jaxvision.cli import assemble
from jaxvision.cli.config import default_config
from jaxvision.core import InputError
from jaxvision.ops import encode_mask


@pytest.mark.parametrize(
    ("asked", "before", "after"),
    [
        (True, None, "--xla_gpu_deterministic_ops=true"),
        (True, "--xla_a=1", "--xla_a=1 --xla_gpu_deterministic_ops=true"),
        (False, "--xla_a=1", "--xla_a=1"),
    ],
)
def test_determinism_is_asked_of_xla(monkeypatch, asked, before, after):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    if before is not None:
        monkeypatch.setenv("XLA_FLAGS", before)
    assemble.set_determinism(types.SimpleNamespace(deterministic=asked))
    assert os.environ["XLA_FLAGS"] == after


def test_a_run_from_before_a_key_existed_gets_its_default(tmp_path):
    saved = {"steps": 7, "model": {"name": "resnet20", "blocks": 1}, "data": {"channels": 3}}
    (tmp_path / "config.json").write_text(json.dumps(saved))
    config = assemble.saved_config(tmp_path)
    assert config.steps == 7
    assert config.model.to_dict() == {"name": "resnet20", "blocks": 1}
    assert config.data.channels == 3
    assert config.optimizer.schedule.name == "cosine"


ANNOTATIONS = {
    "classification": {"label": 1},
    "detection": {
        "boxes": np.array([[1, 2, 5, 6]]),
        "labels": np.array([1]),
        "crowd": np.array([False]),
        "difficult": np.array([False]),
    },
    "landmarks": {"points": np.array([[1, 2], [3, 4]]), "visible": np.array([True, False])},
    "segmentation": {"labels": np.ones((6, 9), np.uint8)},
}


class Records(list):
    def where(self, index):
        return "a.png"


def config_of(task):
    config = default_config(task)
    config.data.image_size = 8
    if task == "classification":
        config.data.channels = 3
        config.data.resize = "bilinear"
    elif task != "restoration":
        config.data.class_names = ("cat", "dog")
        config.data.resize = "letterbox"
    return config


@pytest.mark.parametrize("task", ANNOTATIONS)
def test_an_image_is_prepared_as_in_an_evaluation(task):
    image = np.random.default_rng(0).integers(0, 256, (6, 9, 3)).astype("u1")
    whole = {"image": image, **ANNOTATIONS[task]}
    config = config_of(task)
    if task == "detection":
        config.data.masks = True
        whole["masks"] = [encode_mask(np.ones((6, 9), bool))]
    example = assemble.spread_examples(config, Records([whole]), 1)
    to_input = assemble.image_transform(config)
    alone = {"image": image, "label": 0}
    for record in (whole, alone):
        found = to_input(record, "a.png")
        assert found.shape == (8, 8, 3)
        np.testing.assert_array_equal(found, example.image[0])


def test_an_image_of_another_size_or_none_is_refused():
    config = config_of("segmentation")
    config.data.resize = None
    with pytest.raises(InputError, match=r"a\.png: the image is 9 x 6 instead of 8 x 8"):
        assemble.image_transform(config)({"image": np.zeros((6, 9, 3), "u1")}, "a.png")
    with pytest.raises(InputError, match="the images of restoration have no one size"):
        assemble.image_transform(config_of("restoration"))
