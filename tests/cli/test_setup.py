"""From a config to the pieces that the engine takes."""

import json
import os
import types

import numpy as np
import pytest

from jaxvision.cli import setup
from jaxvision.cli.config import default_config
from jaxvision.core import InputError
from jaxvision.core.files import replace_text
from jaxvision.data import Arrays
from jaxvision.ops import encode_mask
from tests.descriptions import run_description


@pytest.mark.parametrize(
    ("asked", "before", "after"),
    [
        ({"deterministic"}, None, "--xla_gpu_deterministic_ops=true"),
        ({"deterministic"}, "--xla_a=1", "--xla_a=1 --xla_gpu_deterministic_ops=true"),
        ({"remat"}, "--xla_a=1", "--xla_a=1 --xla_gpu_disable_async_collectives=allreduce"),
        (set(), "--xla_a=1", "--xla_a=1"),
    ],
)
def test_a_config_gives_xla_the_flags_that_it_needs(monkeypatch, asked, before, after):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    if before is not None:
        monkeypatch.setenv("XLA_FLAGS", before)
    config = types.SimpleNamespace(deterministic=False, remat=False)
    vars(config).update(dict.fromkeys(asked, True))
    for _ in range(2):  # a flag is given once
        setup.set_compiler_flags(config)
        assert os.environ["XLA_FLAGS"] == after


def test_a_run_without_a_key_gets_its_default(tmp_path):
    saved = {"steps": 7, "model": {"name": "resnet20", "blocks": 1}, "data": {"channels": 3}}
    replace_text(tmp_path / "run.json", json.dumps(run_description(config=saved)))
    config = setup.config_of_run(tmp_path)
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
    config.data.class_names = ("cat", "dog")
    config.data.resize = "letterbox"
    if task in ("landmarks", "segmentation"):
        config.model.widths = (4, 8)
    if task == "classification":
        config.model.name = "resnet20"
        config.data.update({"channels": 3, "mean": (0.5,) * 3, "std": (0.5,) * 3})
    if task == "detection":
        config.model.name = "yolov2_tiny"
        config.anchors = ((3, 3),)
        config.data.image_size = 32
    return config


@pytest.mark.parametrize("task", ANNOTATIONS)
def test_examples_are_spread_over_the_records(task):
    config = config_of(task)
    record = ANNOTATIONS[task]
    if task == "detection":
        config.data.masks = True
        record = {**record, "masks": [encode_mask(np.ones((6, 9), bool))]}
    images = [np.full((6, 9, 3), value, np.uint8) for value in (0, 50, 100, 150, 200)]
    records = Records({"image": image, **record} for image in images)
    transform = setup.build(config, evaluation=True).eval_transform
    batch = setup.spread_examples(records, transform, 3)
    side = config.data.image_size
    assert batch.image.shape == (3, side, side, 3)
    assert [image[side // 2, side // 2, 0] for image in batch.image] == [0, 100, 200]
    assert len(setup.spread_examples(records, transform, 9).image) == 5


def test_an_image_of_another_size_is_refused():
    config = config_of("segmentation")
    config.data.resize = None
    transform = setup.build(config, evaluation=True).eval_transform
    record = {"image": np.zeros((6, 9, 3), "u1"), **ANNOTATIONS["segmentation"]}
    with pytest.raises(InputError, match=r"a\.png: the image has 9 x 6 pixels instead of 8 x 8"):
        transform(record, "a.png")


@pytest.mark.parametrize(
    ("config_names", "count", "names", "expected"),
    [
        ((), None, (), ("0", "1", "2")),
        ((), None, ("a", "b", "c"), ("a", "b", "c")),
        ((), 5, (), ("0", "1", "2", "3", "4")),
        (("x", "y", "z"), 3, (), ("x", "y", "z")),
        (("x", "y", "z"), 4, (), "num_classes is 4, but there are 3 classes .x, y, z.: set"),
        ((), 2, ("a", "b", "c"), "num_classes is 2, but there are 3 classes"),
        (("x",), None, ("a", "b", "c"), "^config.data.class_names is x, but the classes of the da"),
    ],
)
def test_the_names_of_the_classes(monkeypatch, config_names, count, names, expected):
    images = np.zeros((4, 8, 8, 1), np.uint8)
    source = Arrays(images, [0, 1, 2, 0], class_names=names)
    kind = setup.KINDS["classification"]
    monkeypatch.setitem(kind.sources, "arrays", lambda options, split: source)
    config = default_config()
    config.data.update({"source": "arrays", "class_names": config_names, "num_classes": count})
    if isinstance(expected, str):
        with pytest.raises(InputError, match=expected):
            setup.open_data(config).open("train")
    else:
        setup.open_data(config)
        assert config.data.class_names == expected
