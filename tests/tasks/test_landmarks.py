"""The landmark task: losses, metrics, what is found."""

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvision.cli.config import default_config
from jaxvision.core import InputError, LandmarkBatch
from jaxvision.data import EvalLoader, ToLandmarkExample, TrainLoader
from jaxvision.data.sources.scenes import SceneLandmarks, scenes
from jaxvision.engine import Optimizer, Parallel, init_state, make_evaluate, make_update
from jaxvision.losses import heatmap_cross_entropy, heatmap_l2_loss
from jaxvision.models import MODELS, SEGMENTERS
from jaxvision.ops import gaussian_heatmaps
from jaxvision.tasks import landmarks

SIZE = 16
POINTS = np.float32([[3.2, 4.9], [10.5, 11.1], [8, 14], [0, 0]])
VISIBLE = np.array([True, True, True, False])


def config_of(names=("left", "right", "nose", "mouth"), **changes):
    config = default_config("landmarks")
    config.data.image_size = SIZE
    config.data.class_names = tuple(names)
    config.model.widths = (4, 8)
    with config.unlocked():
        for key, value in changes.items():
            *groups, last = key.split("__")
            functools.reduce(getattr, groups, config)[last] = value
    return config


def example_of(**changes):
    fields = {
        "image": np.zeros((SIZE, SIZE, 3), np.uint8),
        "points": POINTS,
        "visible": VISIBLE,
        "mask": np.True_,
        "placement": np.float32([1, 1, 0, 0]),
    }
    return LandmarkBatch(**{**fields, **changes})


@functools.cache
def task_of(name="heatmap_cross_entropy", method="soft_argmax"):
    return landmarks(config_of(loss__name=name, decode__method=method))


def logits_of(seed=1, side=SIZE):
    return np.random.default_rng(seed).normal(size=(side, side, 4)).astype("f4")


def gaussians(sigma=1.0, points=POINTS, side=SIZE):
    return gaussian_heatmaps(points, size=(side, side), sigma=sigma)


def loss_of(task, logits, example):
    run = jax.jit(lambda x, e: task.loss({"logits": x}, e, key=None, step=0))
    return run(logits, example)


@pytest.mark.parametrize(
    ("name", "term", "loss"),
    [
        ("heatmap_cross_entropy", "cross_entropy", heatmap_cross_entropy),
        ("heatmap_l2_loss", "l2", heatmap_l2_loss),
    ],
)
def test_the_losses_are_those_of_the_library(name, term, loss):
    task = landmarks(config_of(loss__name=name, loss__sigma=1.7))
    terms = loss_of(task, logits_of(), example_of())
    expected = loss(logits_of(), gaussians(1.7), VISIBLE)
    assert terms.keys() == {term}
    np.testing.assert_allclose(terms[term], expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["heatmap_cross_entropy", "heatmap_l2_loss"])
def test_what_is_absent_costs_nothing_wherever_it_is(name):
    task = task_of(name)

    @jax.jit
    def slope(logits, points, visible):
        def total(logits):
            example = example_of(points=points, visible=visible)
            terms = task.loss({"logits": logits}, example, key=None, step=0)
            return sum(total for total, _ in terms.values())

        return jax.value_and_grad(total)(logits)

    absent, logits = np.zeros(4, bool), logits_of()
    value, gradient = slope(logits, POINTS, absent)
    assert value == 0
    assert not np.asarray(gradient).any()
    value, gradient = slope(logits, POINTS, VISIBLE)
    assert np.asarray(gradient)[..., :3].any(axis=(0, 1)).all()
    assert not np.asarray(gradient)[..., 3].any()
    elsewhere = np.where(VISIBLE[:, None], POINTS, np.nan).astype("f4")
    changed, other = slope(logits, elsewhere, VISIBLE)
    assert changed == value
    np.testing.assert_array_equal(other, gradient)


@pytest.mark.parametrize(
    ("name", "method", "error"),
    [
        ("heatmap_cross_entropy", "argmax", 1e-4),
        ("heatmap_cross_entropy", "soft_argmax", 0.1),  # the window cuts the tails unevenly
        ("heatmap_l2_loss", "argmax", 1e-4),
    ],
)
def test_points_are_found_in_perfect_maps(name, method, error):
    maps = gaussians()
    task, squares = task_of(name, method), name == "heatmap_l2_loss"
    logits = maps if squares else jnp.log(jnp.maximum(maps, 1e-30))
    found = task.decode({"logits": logits})
    np.testing.assert_allclose(found["points"][:3], POINTS[:3], atol=error)
    expected = (maps if squares else maps / maps.sum((0, 1), keepdims=True)).max((0, 1))
    np.testing.assert_allclose(found["scores"], expected, rtol=1e-4)


def test_settings_of_the_soft_argmax():
    logits = np.full((SIZE, SIZE, 4), -50.0, "f4")
    logits[2, 2], logits[2, 12], logits[2, 3] = 3, 2, 1

    def x(**changes):
        decode = landmarks(config_of(**changes)).decode
        return float(decode({"logits": logits})["points"][0, 0])

    one, two = np.exp([-1.0, -2.0])
    assert x() == pytest.approx(2.5 + two / (1 + two), rel=1e-5)
    everywhere = 2.5 + (10 * one + two) / (1 + one + two)
    assert x(decode__radius=0) == pytest.approx(everywhere, rel=1e-4)
    assert x(decode__temperature=0.5) == pytest.approx(2.5 + two**2 / (1 + two**2), rel=1e-5)


def test_the_error_is_in_pixels_of_the_original_image():
    found = POINTS + np.float32([[3, 4], [0, 0], [0, -5], [9, 9]])
    logits = jnp.log(jnp.maximum(gaussians(points=found), 1e-30))
    task = task_of(method="argmax")
    for scale, mean in (((1, 1), 10 / 3), ((2, 2), 5 / 3), ((1, 2.5), (np.hypot(3, 1.6) + 2) / 3)):
        example = example_of(placement=np.float32([*scale, 1, 2]))
        total, weight = task.metrics({"logits": logits}, example)["pixel_error"]
        assert weight == 3
        assert total / weight == pytest.approx(mean, rel=1e-3)
    nothing = example_of(visible=np.zeros(4, bool))
    assert task.metrics({"logits": logits}, nothing)["pixel_error"] == (0, 0)


class Coarse(nn.Module):
    """Maps of a side of the images over `stride`."""

    num_classes: int = 1
    stride: int = 2
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images, *, train):
        sides = (self.stride, self.stride)
        return {"logits": nn.Conv(self.num_classes, sides, sides, padding="VALID")(images)}


def test_maps_may_be_smaller_than_the_images(monkeypatch):
    for table in (MODELS, SEGMENTERS):
        monkeypatch.setitem(table, "coarse", Coarse)
    config = config_of(model__name="coarse", decode__method="argmax")
    del config.model.widths
    task, half = landmarks(config), SIZE // 2
    terms = loss_of(task, logits_of(side=half), example_of())
    expected = heatmap_cross_entropy(
        logits_of(side=half), gaussians(points=POINTS / 2, side=half), VISIBLE
    )
    np.testing.assert_allclose(terms["cross_entropy"], expected, rtol=1e-5)
    maps = jnp.log(jnp.maximum(gaussians(points=POINTS / 2, side=half), 1e-30))
    found = task.decode({"logits": maps})["points"]
    np.testing.assert_allclose(found[:3], POINTS[:3], atol=1e-3)
    with config.unlocked():
        config.model.stride = 3
    with pytest.raises(InputError, match=r"config.model: its maps are 5 x 5 of images of 16 x 16"):
        landmarks(config)


def test_a_loss_of_the_users_own(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from jaxvision.ops import soft_argmax\n"
        "from jaxvision.metrics import normalized_landmark_error\n"
        "def distance(logits, points, visible, *, factor):\n"
        "    found = soft_argmax(logits)\n"
        "    total, weight = normalized_landmark_error(found, points, visible, 1.0)\n"
        "    return {'distance': (factor * total, weight)}\n"
    )
    task = landmarks(config_of(loss__name=f"{file}:distance", loss__factor=2.0))
    flat = np.zeros((SIZE, SIZE, 4), "f4")
    total, weight = loss_of(task, flat, example_of())["distance"]
    expected = 2 * np.linalg.norm(POINTS[:3] - SIZE / 2, axis=1).sum()
    assert (float(total), weight) == (pytest.approx(expected, rel=1e-5), 3)


def test_all_augmentation_together():
    changes = {
        "augment__scale": (0.8, 1.2),
        "augment__translate": 0.1,
        "augment__flip": 0.5,
        "augment__swap": (1, 0, 2, 3),
        "augment__hue": 0.1,
        "augment__saturation": 1.5,
        "augment__value": 1.5,
    }
    image = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
    example = example_of(image=image)
    batch = jax.tree.map(lambda x: np.stack([x] * 8), example)
    task, keys = landmarks(config_of(**changes)), jax.random.split(jax.random.key(0), 8)
    result = jax.jit(jax.vmap(task.augment))(keys, batch)
    assert jax.tree.map(jnp.shape, result) == jax.tree.map(jnp.shape, batch)
    assert len(np.unique(np.asarray(result.points)[:, 1], axis=0)) == 8
    assert 0 <= result.image.min() < result.image.max() <= 255
    plain = task_of().augment(keys[0], example)
    np.testing.assert_array_equal(plain.image, image)


class Scenes:
    """The first training scenes, in memory."""

    class_names = tuple("0123456789")

    def __init__(self, count):
        self._scenes = list(itertools.islice(scenes("train"), count))

    def __len__(self):
        return len(self._scenes)

    def __getitem__(self, index):
        image, _, boxes, labels = self._scenes[index]
        return {"image": image, "boxes": boxes, "labels": labels}

    def where(self, index):
        return f"scene {index}"


@pytest.fixture(scope="module")
def source():
    return SceneLandmarks(Scenes(8))


TO_EXAMPLE = ToLandmarkExample((32, 32), 10)


def train(source, devices, steps=20, widths=(4, 8)):
    names = source.class_names
    task = landmarks(config_of(names, data__image_size=32, loss__sigma=1.5, model__widths=widths))
    loader = TrainLoader(source, TO_EXAMPLE, batch_size=8, seed=0)
    parallel = Parallel("pmap", jax.devices()[:devices])
    transformation = optax.with_extra_args_support(optax.adam(0.05))
    optimizer = Optimizer(transformation, lambda _: 0.05)
    update = make_update(task, optimizer, seed=0, parallel=parallel)
    state = parallel.replicate(init_state(task, optimizer, 0))
    losses = []
    for _ in range(steps):
        state, record = update(state, parallel.shard(next(loader)))
        losses.append(float(record["loss"]))
    return make_evaluate(task, parallel=parallel), state, np.array(losses)


@pytest.mark.slow
def test_it_learns_the_same_on_one_device_and_on_four(source):
    _, _, alone = train(source, 1)
    evaluate, state, losses = train(source, 4)
    np.testing.assert_allclose(losses[:4], alone[:4], rtol=1e-3)
    assert losses[-3:].mean() < losses[:3].mean() - 1.5
    # Filler images change nothing.
    expected, filled = (
        evaluate(state, EvalLoader(source, TO_EXAMPLE, batch_size=size)).metrics for size in (8, 12)
    )
    assert filled == pytest.approx(expected, rel=1e-5)
    assert expected.keys() == {"pixel_error"}


@pytest.mark.slow
def test_eight_scenes_are_learnt_by_heart(source):
    """With an error on the way (points that are off, swapped names) they would not be."""
    evaluate, state, _ = train(source, 1, steps=200, widths=(16, 32, 64))
    metrics = evaluate(state, EvalLoader(source, TO_EXAMPLE, batch_size=8)).metrics
    assert metrics["pixel_error"] < 1  # of 96; a pixel of the network's input is 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__class_names": ()}, "number of config.data.class_names is 0"),
        ({"data__image_size": 0}, "config.data.image_size is 0"),
        ({"data__mean": (0.5,)}, "3 channels, but 1 figures in mean"),
        ({"model__name": "lenet5"}, "unknown network that gives maps 'lenet5'"),
        ({"model__wdths": (4,)}, "unet has no field 'wdths'"),
        ({"loss__name": "l2"}, "unknown loss 'l2'"),
        ({"loss__gamma": 2.0}, "config.loss: heatmap_cross_entropy got other options"),
        ({"loss__sigma": 0.0}, "config.loss: sigma is 0"),
        ({"decode__method": "max"}, "unknown config.decode.method 'max'"),
        ({"decode__temperature": 0.0}, "config.decode: temperature is 0"),
        ({"augment__flip": 0.5}, r"config.augment: swap is \(\): give for each of the 4"),
        ({"augment__scale": (2, 1)}, "config.augment: the second of scale is 1"),
    ],
)
def test_settings_that_do_not_fit_are_clear_errors(changes, message):
    with pytest.raises(InputError, match=message):
        landmarks(config_of(**changes))
