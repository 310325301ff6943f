"""Settings that would have no effect are errors."""

import contextlib
import re

import pytest

from jaxvision.cli.arguments import common_flags, define_config, parse
from jaxvision.cli.config import default_config, load_config, shipped_configs
from jaxvision.cli.kinds import KINDS
from jaxvision.cli.options import read_group
from jaxvision.cli.unused import (
    _CHOICES,
    _SWITCHES,
    EMBEDDED,
    SOURCES,
    check_folder_of_embedded,
    check_used,
)
from jaxvision.core import OptionError


def check(config, *arguments):
    argv = ["train", *(f"--config.{argument}" for argument in arguments)]
    values = common_flags()
    file = define_config(values, config, argv)
    parse(values, argv, "usage")
    check_used(values.config, file)


@pytest.mark.parametrize(
    ("config", "arguments", "message"),
    [
        (
            "digits_lenet5",
            ["data.train_split=x"],
            "data.train_split is set, but the source digits does not use it: leave it out, or set "
            "config.data.source to folder or cache or npz or tfds",
        ),
        ("digits_lenet5", ["data.name=mnist"], "data.name is set, .* set config.data.source to tf"),
        ("fashion_mnist_resnet20", ["data.test_split=x"], "data.test_split is set, but the source"),
        ("photos_dncnn", ["data.dir=x"], "data.dir is set, but the source photographs does not"),
        ("scenes_unet", ["data.mask=x"], "data.mask is set, .* set config.data.source to tfds"),
        ("scenes_unet", ["data.binary=True"], "data.binary is set, .* to folder or voc or tfds"),
        ("coco_yolov3", ["data.difficult"], "data.difficult is set, .* to voc or tfds"),
        ("coco_yolov3", ["data.first_pixel=0"], "data.first_pixel is set, but the source coco"),
        (
            "digits_lenet5",
            ["reinit=('fc',)"],
            "reinit is set, but has no effect without config.init_from: set that too, or leave it",
        ),
        ("digits_lenet5", ["head_warmup.only=('fc',)"], "head_warmup.only is set, but has no eff"),
        ("digits_lenet5", ["optimizer.nesterov"], "optimizer.nesterov is set, but adamw does not"),
        ("digits_resnet20", ["optimizer.b1=0.5"], ".* set config.optimizer.name to adam or adamw"),
        ("digits_lenet5", ["optimizer.schedule.factor=0.5"], ".* but cosine does not use it"),
        ("digits_lenet5", ["augment.mixup_alpha=0.5"], ".* no effect without config.augment.mixup"),
        (
            "coco_yolov3",
            ["augment.jitter=0", "augment.least_side=3"],
            ".* config.augment.mosaic or ",
        ),
        ("coco_faster_rcnn", ["data.mask_size=56"], "data.mask_size is set, .* config.data.masks:"),
        ("transfer_cifar10_last_layer", [], "reinit is set, but has no effect without config.init"),
    ],
)
def test_a_setting_without_effect_is_named(config, arguments, message):
    with pytest.raises(OptionError, match=f"^config.{message}"):
        check(config, *arguments)


@pytest.mark.parametrize(
    ("config", "arguments"),
    [
        ("digits_lenet5", ["data.train_split=train", "optimizer.momentum=0.9", "init_prefix="]),
        ("digits_lenet5", ["data.source=folder", "data.train_split=x", "data.dir=y"]),
        ("digits_lenet5", ["augment.mixup=0.5", "augment.mixup_alpha=0.5"]),
        ("digits_resnet20", ["optimizer.name=adam"]),  # the file's nesterov is no one's wish
        ("tfds_mnist", ["data.source=folder"]),
        ("coco_faster_rcnn", ["data.masks", "data.mask_size=56"]),
        ("transfer_cifar10_last_layer", ["init_from=x"]),
    ],
)
def test_what_has_an_effect_or_was_not_asked_for_passes(config, arguments):
    check(config, *arguments)


@pytest.mark.parametrize("name", shipped_configs())
def test_no_shipped_config_sets_anything_in_vain(name):
    config = load_config(shipped_configs()[name])
    if name == "transfer_cifar10_last_layer" or config.init_key_map:
        config.init_from = "resnet20.th"
    check_used(config, config)


def test_every_key_of_the_tables_is_there():
    known = set()
    for task in KINDS:
        pending = [("", default_config(task))]
        for prefix, group in pending:
            pending += [(f"{prefix}{k}.", v) for k, v in group.items() if hasattr(v, "items")]
            known |= {prefix + key for key in group}
    named = {*_CHOICES, *_SWITCHES, *(key for key, _ in _CHOICES.values())}
    assert {*named, *(key for keys in _SWITCHES.values() for key in keys)} <= known


class Recorder:
    """Options of the data that write down which of them are read."""

    def __init__(self, options, folder):
        self.options, self.folder_, self.read = options, folder, set()

    def __getattr__(self, name):
        self.read.add(name)
        return {"dir": str(self.folder_), "name": "mnist"}.get(name, getattr(self.options, name))

    @property
    def folder(self):
        self.read.add("dir")
        return self.folder_

    def own_split(self, split):
        self.read |= {"train_split", "test_split"}
        return split


@pytest.mark.parametrize(
    ("task", "source"), [(task, source) for task, kind in KINDS.items() for source in kind.sources]
)
def test_the_table_is_what_the_sources_read(task, source, tmp_path, monkeypatch):
    config = default_config(task)
    config.data.source = source
    options = read_group(KINDS[task].groups["data"], config.data, "config.data")
    recorder = Recorder(options, tmp_path / "nothing")
    for module in ("Digits", "Scenes"):  # which would be prepared
        monkeypatch.setattr(f"jaxvision.data.{module}", lambda *args, **options: None)
    with contextlib.suppress(Exception):
        KINDS[task].sources[source](recorder, "train")
    assert recorder.read & SOURCES.keys() == {
        key for key, sources in SOURCES.items() if source in sources and hasattr(options, key)
    }


@pytest.mark.parametrize("source", EMBEDDED)
def test_embedded_data_are_not_prepared_among_other_data(source, tmp_path):
    check_folder_of_embedded(source, None)
    check_folder_of_embedded(source, str(tmp_path))
    (tmp_path / "train").mkdir()
    with pytest.raises(OptionError, match=re.escape(f"dir is {tmp_path}, which has other data")):
        check_folder_of_embedded(source, str(tmp_path))
    check_folder_of_embedded("folder", str(tmp_path))
    (tmp_path / "mnist" / "1.0.0").mkdir(parents=True)
    (tmp_path / "mnist" / "1.0.0" / "dataset_info.json").touch()
    check_folder_of_embedded(source, str(tmp_path))
