"""Every network for pixels learns real ones, on one device and on four."""

import functools
import itertools

import numpy as np
import optax
import pytest
import sklearn.datasets

from jaxvision.core import Inputs, RestorationBatch, SegmentationBatch
from jaxvision.data.sources.scenes import scenes
from jaxvision.models import RESTORERS, SEGMENTERS, create_model
from jaxvision.tasks import (
    Downscale,
    DownscaleUpscale,
    GaussianNoise,
    restoration,
    segmentation,
    segmentation_loss,
)
from tests.tasks.loop import train

SIZE, STEPS = 48, 12
DARKNET = {"name": "plain_darknet", "stages": ((1, ((8, 3),)), (2, ((8, 3),)))}
SEGMENTATION = {
    "unet": {"widths": (4, 8), "up": "bilinear"},
    "unet_valid": {"widths": (4, 8), "dropout": 0.0},
    "unet_backbone": {"backbone": DARKNET, "widths": (8, 4), "norm": "group_norm"},
    "resunet": {"widths": (4, 8)},
    "deconvnet": {"stages": ((4, 1), (8, 1)), "hidden": 8, "window": 3},
    "fcn_resnet50": {"backbone": DARKNET, "level": 2, "aux": True, "dropout": 0.0},
    "deeplabv3_resnet50": {
        **{"backbone": DARKNET, "level": 2, "rates": (1, 2), "width": 8, "aux": True},
        **{"dropout": 0.0, "dropout_aux": 0.0},
    },
    "lraspp_mobilenet_v3_large": {"backbone": DARKNET, "low": 1, "high": 2, "width": 8},
    "fcn8s_vgg16": {
        "stages": ((4, 1), (8, 1)),
        "steps": (("upscore2", 1), ("upscore_last", 0)),
        "hidden": 8,
        "window": 3,
        "padding": 9,
        "dropout": 0.0,
    },
}
RESTORATION = {
    "dncnn_s": ({"depth": 4, "width": 8}, GaussianNoise((25.0, 25.0))),
    "dncnn_b": ({"depth": 5, "width": 8}, GaussianNoise((0.0, 55.0))),
    **{
        f"srcnn_{kernels}": ({"widths": (8, 4)}, DownscaleUpscale(3))
        for kernels in ("915", "935", "955")
    },
    "espcn": ({"widths": (8, 4)}, Downscale(3)),
}
SAME_KIND = {
    "deeplabv3_resnet101": "deeplabv3_resnet50",
    "deeplabv3_mobilenet_v3_large": "deeplabv3_resnet50",
    "fcn_resnet101": "fcn_resnet50",
    "fcn16s_vgg16": "fcn8s_vgg16",
    "fcn32s_vgg16": "fcn8s_vgg16",
}
"""Networks that differ from another in how much of it there is only."""

INPUTS = Inputs((SIZE, SIZE))


def segmentation_case(name):
    names = ("background", *"0123456789")
    model = create_model(name, num_classes=len(names), **SEGMENTATION[name])
    loss = functools.partial(segmentation_loss, dice=0.5)
    middle = slice(24, 24 + SIZE)
    images, masks = zip(
        *((image, mask) for image, mask, _, _ in itertools.islice(scenes("train"), 4)), strict=True
    )
    images, masks = (np.stack(x)[:, middle, middle] for x in (images, masks))
    batch = SegmentationBatch(image=images, labels=masks, mask=np.ones(4, bool))
    return segmentation(model, INPUTS, class_names=names, loss=loss), batch


def restoration_case(name):
    fields, degradation = RESTORATION[name]
    task = restoration(
        create_model(name, **fields),
        INPUTS,
        degradation=degradation,
        color="luminance",
        tile=66,
    )
    photo = sklearn.datasets.load_sample_image("china.jpg")
    images = np.stack([photo[top : top + SIZE, 200 : 200 + SIZE] for top in (0, 90, 180, 270)])
    batch = RestorationBatch(
        image=images,
        seed=np.arange(4, dtype=np.uint32),
        photograph=np.zeros(4, np.int32),
        origin=np.zeros((4, 2), np.int32),
        size=np.full((4, 2), SIZE, np.int32),
        mask=np.ones(4, bool),
    )
    return task, batch


def test_no_network_is_left_out():
    assert SEGMENTATION.keys() | SAME_KIND.keys() == SEGMENTERS.keys()
    assert RESTORATION.keys() == RESTORERS.keys()


@pytest.mark.long  # others learn in test_segmentation.py and test_restoration.py
@pytest.mark.parametrize("name", [*SEGMENTATION, *RESTORATION])
def test_it_learns_the_same_on_one_device_and_on_four(name):
    task, batch = (segmentation_case if name in SEGMENTERS else restoration_case)(name)
    alone, shared = (
        train(task, [batch] * STEPS, devices, optimizer=optax.adam(0.01)).losses
        for devices in (1, 4)
    )
    np.testing.assert_allclose(shared[:3], alone[:3], rtol=2e-3)
    for losses in (alone, shared):
        assert np.isfinite(losses).all()
        assert losses[-3:].mean() < 0.95 * losses[0]
