"""What configs say of how results are measured, and of how large images are predicted."""

import pytest

from jaxvision.cli.config import default_config, documented_keys
from jaxvision.cli.setup import build
from jaxvision.core import InputError, OptionError


def restoration(protocol="", *, data=(), degradation=(), **model):
    config = default_config("restoration")
    config.model.update(model or {"name": "srcnn_915", "widths": (4, 4)})
    config.data.update({"image_size": 12, "tile": 60, **dict(data)})
    config.degradation.name, config.degradation.protocol = "downscale_upscale", protocol
    config.degradation.update(dict(degradation))
    return config


def test_a_protocol_sets_the_options_of_the_data():
    config = restoration("srcnn", degradation={"factor": 3})
    task = build(config).task
    expected = {"color": "luminance", "crop_border": 3, "modcrop": 3, "border": "symmetric"}
    for place in (task, config.data):
        assert {name: getattr(place, name) for name in expected} == expected
        assert place.margin == 24  # 6 for the network, 12 for the kernels, 5 for SSIM
    again = build(config, evaluation=True).task  # as that of a saved config
    assert (again.margin, again.crop_border) == (24, 3)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            restoration("srcnn", data={"color": "grey"}),
            "^config.degradation.protocol is 'srcnn', which sets config.data.color=luminance, but "
            "that is grey: leave out one of them",
        ),
        (
            restoration("dncnn"),
            "^config.degradation.protocol is 'dncnn', which is not for DownscaleUpscale: make the "
            "degradation gaussian_noise",
        ),
        (restoration(data={"margin": 9}), "^config.data.margin is 9: give at least 23"),
        (restoration(data={"border": "zero"}), "^unknown border 'zero': did you mean 'zeros'"),
        (restoration(data={"crop_border": -1}), "^config.data.crop_border is -1: give at least 0"),
        (restoration("vdsr"), "^unknown protocol 'vdsr': known: dncnn, srcnn"),
    ],
)
def test_what_does_not_fit_a_measure_is_named(config, message):
    with pytest.raises(InputError, match=message):
        build(config)


def segmentation(**data):
    config = default_config("segmentation")
    config.model.widths = (2, 4)
    config.data.update({"image_size": 8, "class_names": ("wall", "vessel"), **data})
    return config


def test_segmentation_takes_grey_images_and_measures_one_class():
    given = {"positive_class": "vessel", "tile_overlap": 0.5, "tile_average": True}
    task = build(segmentation(channels=1, **given), evaluation=True).task
    assert task.inputs.shape == (8, 8, 1)
    assert task.dataset_metric.names == ("f1", "roc_auc")
    assert {name: getattr(task, name) for name in given} == given
    with pytest.raises(OptionError, match=r"^config.data.positive_class is 'vein': "):
        build(segmentation(positive_class="vein"), evaluation=True)


def test_detection_may_add_the_last_pixel():
    config = default_config("detection")
    config.model.update({"name": "yolov1", "stages": ((1, ((4, 3),)),), "hidden": (4,)})
    config.model.convolutions = ((4, 1),)
    config.data.update({"image_size": 32, "voc_inclusive": True, "class_names": ("cat",)})
    task = build(config, evaluation=True).task
    assert task.origin["dataset_metric"][1]["voc_inclusive"] is True


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("restoration", "data.crop_border data.modcrop data.border degradation.protocol"),
        ("segmentation", "data.channels data.positive_class data.tile_overlap data.tile_average"),
        ("detection", "data.voc_inclusive"),
    ],
)
def test_the_help_has_them(kind, names):
    keys = documented_keys(kind)
    assert all(keys[name] for name in names.split())
