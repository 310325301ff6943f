"""Every network for pixels learns real ones, on one device and on four."""

import itertools

import jax
import numpy as np
import optax
import pytest
import sklearn.datasets

from jaxvision.cli.config import default_config
from jaxvision.core import RestorationBatch, SegmentationBatch
from jaxvision.data.sources.scenes import scenes
from jaxvision.engine import Optimizer, Parallel, init_state, make_update
from jaxvision.models import RESTORERS, SEGMENTERS
from jaxvision.tasks import TASKS

SIZE, STEPS = 48, 12
DARKNET = {"name": "plain_darknet", "stages": ((1, ((8, 3),)), (2, ((8, 3),)))}
SEGMENTATION = {
    "unet": {"widths": (4, 8), "up": "bilinear"},
    "unet_valid": {"widths": (4, 8), "dropout": 0.0},
    "unet_backbone": {"backbone": DARKNET, "widths": (8, 4), "norm": "group_norm"},
    "resunet": {"widths": (4, 8)},
    "deconvnet": {"stages": ((4, 1), (8, 1)), "hidden": 8, "window": 3},
    "fcn_resnet50": {"backbone": DARKNET, "level": 2, "aux": True, "dropout": 0.0},
    "fcn8s_vgg16": {
        "stages": ((4, 1), (8, 1)),
        "steps": (("upscore2", 1), ("upscore_last", 0)),
        "hidden": 8,
        "window": 3,
        "padding": 9,
        "dropout": 0.0,
    },
}
NOISE = {"name": "gaussian_noise", "sigma": (25.0, 25.0)}
RESTORATION = {
    "dncnn_s": ({"depth": 4, "width": 8}, NOISE),
    "dncnn_b": ({"depth": 5, "width": 8}, {"name": "gaussian_noise", "sigma": (0.0, 55.0)}),
    **{
        f"srcnn_{kernels}": ({"widths": (8, 4)}, {"name": "downscale_upscale", "factor": 3})
        for kernels in ("915", "935", "955")
    },
    "espcn": ({"widths": (8, 4)}, {"name": "downscale", "factor": 3}),
}
SAME_KIND = {
    "fcn_resnet101": "fcn_resnet50",
    "fcn16s_vgg16": "fcn8s_vgg16",
    "fcn32s_vgg16": "fcn8s_vgg16",
}
"""Networks that differ from another in how much of it there is only."""


def segmentation_case(name):
    config = default_config("segmentation")
    config.data.class_names = ("background", *"0123456789")
    config.loss.dice = 0.5
    with config.unlocked():
        config.model.update(SEGMENTATION[name])
    middle = slice(24, 24 + SIZE)
    images, masks = zip(
        *((image, mask) for image, mask, _, _ in itertools.islice(scenes("train"), 4)), strict=True
    )
    images, masks = (np.stack(x)[:, middle, middle] for x in (images, masks))
    return config, SegmentationBatch(image=images, labels=masks, mask=np.ones(4, bool))


def restoration_case(name):
    config = default_config("restoration")
    fields, degradation = RESTORATION[name]
    config.data.color, config.data.tile, config.data.margin = "luminance", 36, 9
    config.augment.symmetry = False
    with config.unlocked():
        config.model.update(fields)
        config.degradation.update(degradation)
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
    return config, batch


def losses_of(name, devices):
    make = segmentation_case if name in SEGMENTERS else restoration_case
    config, batch = make(name)
    config.model.name, config.data.image_size = name, SIZE
    task = TASKS[config.task](config)
    parallel = Parallel("pmap", jax.devices()[:devices])
    transformation = optax.with_extra_args_support(optax.adam(0.01))
    optimizer = Optimizer(transformation, lambda _: 0.01)
    update = make_update(task, optimizer, seed=0, parallel=parallel)
    state = parallel.replicate(init_state(task, optimizer, 0))
    losses = []
    for _ in range(STEPS):
        state, record = update(state, parallel.shard(batch))
        losses.append(float(record["loss"]))
    return np.array(losses)


def test_no_network_is_left_out():
    assert SEGMENTATION.keys() | SAME_KIND.keys() == SEGMENTERS.keys()
    assert RESTORATION.keys() == RESTORERS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SEGMENTATION, *RESTORATION])
def test_it_learns_the_same_on_one_device_and_on_four(name):
    alone, shared = (losses_of(name, devices) for devices in (1, 4))
    np.testing.assert_allclose(shared[:3], alone[:3], rtol=2e-3)
    for losses in (alone, shared):
        assert np.isfinite(losses).all()
        assert losses[-3:].mean() < 0.95 * losses[0]
