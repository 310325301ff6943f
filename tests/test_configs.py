"""Configs: every shipped one can be trained, and a bad one is one line with file and line."""

import json
from functools import partial

import jax
import numpy as np
import pytest
from jaxvision.cli.assemble import make_criterion, make_task
from jaxvision.engine.evaluate import measured
from ml_collections import ConfigDict

from jaxvision.cli.config import (
    configs_folder,
    default_config,
    find_config,
    load_config,
    shipped_configs,
    summary,
)
from jaxvision.core import (
    ClassificationBatch,
    DetectionBatch,
    InputError,
    LandmarkBatch,
    RestorationBatch,
    SegmentationBatch,
)
from jaxvision.data import (
    CLASSIFICATION_SOURCES,
    DETECTION_SOURCES,
    LANDMARK_SOURCES,
    RESTORATION_SOURCES,
    SEGMENTATION_SOURCES,
)
from jaxvision.engine import abstract_state, make_optimizers
from tests.marks import slow_but

CONFIGS = shipped_configs()


def keys(config, prefix=""):
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            yield from keys(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def test_the_configs_are_there():
    assert CONFIGS.keys() >= {
        "digits_lenet5",
        "digits_resnet20",
        "fashion_mnist_resnet20",
        "tfds_mnist",
        "tfds_cifar10",
        "transfer_bccd_resnet20",
        "transfer_cifar10_last_layer",
        "transfer_digits_last_layer",
        "transfer_digits_late_layers",
        "folder_unet",
        "imagenet_resnet50",
        "imagenet_resnet50_bfloat16",
        "photos_dncnn",
        "photos_srcnn",
        "scenes_landmarks",
        "scenes_unet",
        "scenes_yolov1_tiny",
        "scenes_yolov2_tiny",
        "scenes_yolov3_tiny",
        "voc_fcn8s",
        "voc_yolov2",
        "voc_yolov3",
        "coco_yolov3",
        "bccd_yolov2",
    }


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_has_the_keys_of_the_default_and_options_of_its_model_and_loss(name):
    # Options that the model or the loss does not have fail in the next test.
    free = ("model.", "loss.", "auxiliary.", "degradation.")
    config = load_config(CONFIGS[name])
    found = {key for key in keys(config) if not key.startswith(free)}
    expected = {key for key in keys(default_config(config.task)) if not key.startswith(free)}
    assert found == expected


def classification_batch(data):
    return ClassificationBatch(
        image=np.zeros((2, data.image_size, data.image_size, data.channels), np.uint8),
        label=np.zeros(2, np.int32),
        weight=np.ones(2, np.float32),
        mask=np.ones(2, bool),
    )


def detection_batch(data):
    none = np.zeros((2, data.max_boxes), bool)
    return DetectionBatch(
        image=np.zeros((2, data.image_size, data.image_size, 3), np.uint8),
        boxes=np.zeros((2, data.max_boxes, 4), np.float32),
        labels=np.zeros((2, data.max_boxes), np.int32),
        box_mask=none,
        crowd=none,
        difficult=none,
        mask=np.ones(2, bool),
        placement=np.ones((2, 4), np.float32),
        size=np.ones((2, 2), np.int32),
        area=np.zeros((2, data.max_boxes), np.float32),
    )


def landmark_batch(data):
    number = len(data.class_names)
    return LandmarkBatch(
        image=np.zeros((2, data.image_size, data.image_size, 3), np.uint8),
        points=np.zeros((2, number, 2), np.float32),
        visible=np.ones((2, number), bool),
        mask=np.ones(2, bool),
        placement=np.ones((2, 4), np.float32),
    )


def restoration_batch(data):
    return RestorationBatch(
        image=np.zeros((2, data.tile, data.tile, 3), np.uint8),
        seed=np.zeros(2, np.uint32),
        photograph=np.zeros(2, np.int32),
        origin=np.zeros((2, 2), np.int32),
        size=np.ones((2, 2), np.int32),
        mask=np.ones(2, bool),
    )


def segmentation_batch(data):
    shape = (2, data.image_size, data.image_size)
    return SegmentationBatch(
        image=np.zeros((*shape, 3), np.uint8),
        labels=np.zeros(shape, np.uint8),
        mask=np.ones(2, bool),
    )


TASKS = {
    "classification": (CLASSIFICATION_SOURCES, classification_batch),
    "detection": (DETECTION_SOURCES, detection_batch),
    "landmarks": (LANDMARK_SOURCES, landmark_batch),
    "restoration": (RESTORATION_SOURCES, restoration_batch),
    "segmentation": (SEGMENTATION_SOURCES, segmentation_batch),
}


# To go through one takes seconds, through those with networks of the published sizes up to ten.
QUICK = ("digits_lenet5", "photos_srcnn", "scenes_landmarks", "scenes_unet", "scenes_yolov2_tiny")


@pytest.mark.parametrize("name", slow_but(CONFIGS, QUICK))
def test_a_config_can_be_trained(name):
    config = load_config(CONFIGS[name])
    task, data = make_task(config), config.data
    sources, make_batch = TASKS[config.task]

    if config.task == "classification":  # the others try their settings when they are made

        def run(key, batch):
            example_loss = partial(task.loss, key=None, step=np.int32(0))
            batch = jax.vmap(task.augment)(jax.random.split(key, 2), batch)
            batch = jax.vmap(task.prepare)(batch)
            outputs, _ = task.forward(task.init(key), batch, keys=None, step=0, train=False)
            return jax.vmap(example_loss)(outputs, batch), jax.vmap(task.decode)(outputs)

        terms, found = jax.eval_shape(run, jax.random.key(0), make_batch(data))
        assert all(total.shape == weight.shape == (2,) for total, weight in terms.values())
        assert found["probabilities"].shape == (2, data.num_classes)
    *before, optimizer = make_optimizers(config)
    for other in before:  # of other patterns
        abstract_state(task, other)
    peak = jax.vmap(optimizer.schedule)(
        np.arange(0, config.steps, max(1, config.steps // 1000))
    ).max()
    assert peak == pytest.approx(config.optimizer.learning_rate, rel=0.01)
    like = abstract_state(task, optimizer)
    make_criterion(config).check(measured(task, like, make_batch(data)))
    assert data.source in sources


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_is_plain_data_with_a_summary(name):
    config = load_config(CONFIGS[name])
    saved = json.loads(json.dumps(config.to_dict()))
    assert sorted(keys(ConfigDict(saved))) == sorted(keys(config))
    assert summary(CONFIGS[name]).endswith(".")


def test_defaults_are_new_on_every_call():
    default_config().data.channels = 3
    assert default_config().data.channels == 1


@pytest.mark.parametrize("name", ["digits_lenet5", "configs/digits_lenet5.py"])
def test_shipped_configs_are_found_from_anywhere(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config(name) == configs_folder() / "digits_lenet5.py"


def test_a_path_comes_before_a_shipped_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    mine = tmp_path / "configs" / "digits_lenet5.py"
    mine.parent.mkdir()
    mine.touch()
    assert find_config("configs/digits_lenet5.py").resolve() == mine
    assert find_config(str(mine)) == mine
    assert find_config("~/configs/digits_lenet5.py") == mine
    assert find_config("digits_lenet5") == configs_folder() / "digits_lenet5.py"


@pytest.mark.parametrize(
    "name", ["digit_lenet5", "configs/digit_lenet5.py", "elsewhere/digits_lenet5.py"]
)
def test_a_wrong_name_names_the_close_one(name):
    with pytest.raises(InputError) as error:
        find_config(name)
    assert str(error.value).startswith(f"no config {name!r}: did you mean 'digits_lenet5'")


@pytest.mark.parametrize("name", ["", "configs", "xyzzy"])
def test_a_name_like_no_other_lists_all(name):
    with pytest.raises(InputError) as error:
        find_config(name)
    assert str(error.value) == f"no config {name!r}: known: {', '.join(sorted(CONFIGS))}"


IMPORT = "from jaxvision.cli.config import default_config\n"


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("def get_config(:\n", "line 1: SyntaxError: "),
        ("\n\ndef get_config():\n  x = 1\n    y = 2\n", "line 5: IndentationError: "),
        ("import nothing_of_the_kind\n", "line 1: ModuleNotFoundError: No module named 'nothing_"),
        ("def get_config():\n    return 1 / 0\n", "line 2: ZeroDivisionError: division by zero"),
        ("def get_config():\n    raise ValueError('a\\nb')\n", "line 2: ValueError: a"),
        ("def get_config():\n    raise ValueError\n", "line 2: ValueError: "),
        (
            f"{IMPORT}\ndef get_config():\n    config = default_config()\n    config.steps = 'x'\n",
            "line 5: TypeError: ",
        ),
        ("x = 1\n", "AttributeError: module 'jaxvision_config_mine' has no attribute 'get_config'"),
        (f"{IMPORT}def get_config():\n    default_config()\n", "get_config() returns NoneType: "),
        ("def get_config():\n    return {}\n", "get_config() returns dict: return a ConfigDict"),
    ],
)
@pytest.mark.parametrize("relative", [False, True])
def test_a_config_that_fails_is_one_line_with_file_and_line(
    source, problem, relative, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.py"
    path.write_text(source)
    with pytest.raises(InputError) as error:
        load_config(path.relative_to(tmp_path) if relative else path)
    assert str(error.value).startswith(f"config {path}")
    assert problem in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_python_is_refused(tmp_path):
    (tmp_path / "config.yaml").write_text("steps: 3")
    with pytest.raises(InputError, match=r"config .*config.yaml is no Python file: give a .py"):
        load_config(tmp_path / "config.yaml")


@pytest.mark.parametrize(
    ("source", "expected"),
    [('"""One line.\n\nAnd more.\n"""', "One line."), ("x = 1", ""), ("def broken(:", "")],
)
def test_a_summary_is_the_first_line_of_the_docstring(source, expected, tmp_path):
    path = tmp_path / "x.py"
    path.write_text(source)
    assert summary(path) == expected
