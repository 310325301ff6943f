"""Configs: every shipped one can be trained, and a bad one is one line with file and line."""

import json

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxvision.cli.config import (
    configs_folder,
    default_config,
    documented_keys,
    find_config,
    load_config,
    shipped_configs,
    summary,
)
from jaxvision.cli.kinds import KINDS
from jaxvision.cli.optimizers import phases_of_config
from jaxvision.cli.options import read_group
from jaxvision.cli.run_options import BestOptions, RunOptions
from jaxvision.cli.setup import build
from jaxvision.core import InputError, RestorationBatch
from jaxvision.engine import Best, abstract_state, metric_names
from tests.marks import long_but

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
        "tfds_cifar10_resnet9",
        "transfer_bccd_resnet20",
        "transfer_cifar10_last_layer",
        "transfer_digits_last_layer",
        "transfer_digits_late_layers",
        "folder_unet",
        "imagenet_darknet19",
        "imagenet_resnet50",
        "imagenet_resnet50_bfloat16",
        "photos_dncnn",
        "photos_srcnn",
        "scenes_faster_rcnn",
        "scenes_fcos",
        "scenes_keypoint_rcnn",
        "scenes_landmarks",
        "scenes_localizer",
        "scenes_mask_rcnn",
        "scenes_retinanet",
        "scenes_ssd",
        "scenes_unet",
        "scenes_yolo9000",
        "scenes_yolov1_tiny",
        "scenes_yolov2_tiny",
        "scenes_yolov3_tiny",
        "scenes_yolov4_tiny",
        "voc_deeplabv3",
        "voc_faster_rcnn",
        "voc_fcn8s",
        "voc_ssd300",
        "voc_yolov2",
        "voc_yolov3",
        "coco_faster_rcnn",
        "coco_fcos",
        "coco_keypoint_rcnn",
        "coco_mask_rcnn",
        "coco_retinanet",
        "coco_retinanet_v2",
        "coco_ssd300",
        "coco_ssdlite320",
        "coco_yolov3",
        "coco_yolov4",
        "bccd_retinanet",
        "bccd_yolov2",
    }


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_has_the_keys_of_the_default_and_options_of_its_model_and_loss(name):
    # Options that the model, the loss or the detector does not have fail in the next test.
    free = ("model.", "loss.", "auxiliary.", "degradation.", "detector.")
    config = load_config(CONFIGS[name])
    found = {key for key in keys(config) if not key.startswith(free)}
    expected = {key for key in keys(default_config(config.task)) if not key.startswith(free)}
    assert found == expected


def empty_batch(kind, task, transform):
    """Two examples of the evaluation of a black image without annotations, on the host."""
    image = np.zeros(task.inputs.shape, np.uint8)
    record = {"image": image, **KINDS[kind].empty(image, len(task.class_names))}
    example = transform(record, "black.png")
    return jax.tree.map(lambda x: np.stack([x, x]), example)


def empty_tiles(side):
    """Two tiles of the evaluation of a restoration."""
    return RestorationBatch(
        image=np.zeros((2, side, side, 3), np.uint8),
        seed=np.zeros(2, np.uint32),
        photograph=np.zeros(2, np.int32),
        origin=np.zeros((2, 2), np.int32),
        size=np.full((2, 2), side, np.int32),
        mask=np.ones(2, bool),
    )


# To go through one takes seconds, through those with networks of the published sizes up to ten.
QUICK = ("digits_lenet5", "scenes_unet", "scenes_yolov2_tiny")


SLOW = ("photos_srcnn", "scenes_landmarks")


@pytest.mark.parametrize("name", long_but(CONFIGS, QUICK, SLOW))
def test_a_config_can_be_trained(name):
    config = load_config(CONFIGS[name])
    data, kind = config.data, config.task
    assert data.source in KINDS[kind].sources
    if "class_names" in data and not data.class_names:  # those of the data
        data.class_names = tuple(map(str, range(data.get("num_classes") or 10)))
    read_group(RunOptions, config, "config")
    built = build(config)  # goes through network, augmentation, loss and decoding
    task = built.task

    restores = kind == "restoration"
    batch = empty_tiles(data.tile) if restores else empty_batch(kind, task, built.eval_transform)
    phases, ema_decay = phases_of_config(config)
    states = [abstract_state(task, phase, ema_decay=ema_decay) for phase in phases]
    steps = sum(phase.steps or 0 for phase in phases)
    every = max(1, (config.steps - steps) // 1000)
    rates = jax.vmap(phases[-1].schedule)(np.arange(0, config.steps - steps, every))
    assert rates.max() == pytest.approx(config.optimizer.learning_rate, rel=0.01)
    best = read_group(BestOptions, config.best, "config.best")
    names = metric_names(task, states[0].eval_variables, batch)
    Best(best.metric, best.mode, best.patience).check(names)
    if kind == "classification":
        found = jax.eval_shape(
            lambda variables: outputs_of(task, variables, batch), states[0].eval_variables
        )
        assert found["probabilities"].shape == (2, len(data.class_names))


def outputs_of(task, variables, batch):
    """What a task finds for a batch."""
    batch = jax.vmap(task.prepare)(batch)
    outputs, _ = task.forward(variables, batch, keys=None, step=None, train=False)
    return jax.vmap(task.decode)(outputs, batch)


def test_every_key_of_every_task_is_explained():
    for kind in KINDS:
        documented = documented_keys(kind)
        assert set(keys(default_config(kind))) - {"task"} <= documented.keys(), kind
        assert all(documented.values()), kind


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


@pytest.mark.parametrize("name", ["", "kitchen", "xyzzy"])
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
