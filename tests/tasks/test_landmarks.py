"""The landmark task: losses, metrics, what is found, description."""

import dataclasses
import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvision import augment as aug
from jaxvision.core import InputError, Inputs, LandmarkBatch, OptionError
from jaxvision.data import EvalLoader, ToLandmarks, TrainLoader
from jaxvision.data.sources.scenes import SceneLandmarks, scenes
from jaxvision.losses import heatmap_cross_entropy, heatmap_l2_loss
from jaxvision.metrics import normalized_landmark_error
from jaxvision.models import create_model
from jaxvision.ops import gaussian_heatmaps, soft_argmax
from jaxvision.tasks import (
    RESTORE,
    HeatmapDecode,
    gaussian_loss,
    landmarks,
    with_frozen_statistics,
)
from tests.marks import slow_but
from tests.models.variables import random_values
from tests.tasks.loop import as_json, evaluate, train

SIZE = 16
INPUTS = Inputs((SIZE, SIZE))
NAMES = ("left", "right", "nose", "mouth")
POINTS = np.float32([[3.2, 4.9], [10.5, 11.1], [8, 14], [0, 0]])
VISIBLE = np.array([True, True, True, False])


def make(*augment, names=NAMES, fields=(), inputs=INPUTS, **options):
    model = create_model("unet", **{"num_classes": len(names), "widths": (4, 8), **dict(fields)})
    return landmarks(model, inputs, landmark_names=names, augment=augment, **options)


LOSSES = {
    "heatmap_cross_entropy": gaussian_loss,
    "heatmap_l2_loss": functools.partial(gaussian_loss, loss=heatmap_l2_loss),
}


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
    # A network that is trained with squares gives the heatmaps themselves.
    decode = HeatmapDecode(method, softmax=name != "heatmap_l2_loss")
    return make(loss=LOSSES[name], decode=decode)


def logits_of(seed=1, side=SIZE):
    return np.random.default_rng(seed).normal(size=(side, side, 4)).astype("f4")


@functools.partial(jax.jit, static_argnames=("sigma", "size"))
def heatmaps(sigma, points, size):
    return gaussian_heatmaps(points, size=size, sigma=sigma)


def gaussians(sigma=1.0, points=POINTS, size=(SIZE, SIZE)):
    return np.asarray(heatmaps(sigma, points, size))


def logs(maps):
    return np.log(np.maximum(maps, 1e-30))


def loss_of(task, logits, example):
    run = jax.jit(lambda x, e: task.loss({"logits": x}, e, key=None, step=0))
    return run(logits, example)


@pytest.mark.parametrize(
    ("name", "loss"),
    [("heatmap_cross_entropy", heatmap_cross_entropy), ("heatmap_l2_loss", heatmap_l2_loss)],
)
def test_the_losses_are_those_of_the_library(name, loss):
    task = make(loss=functools.partial(LOSSES[name], sigma=1.7))
    terms = loss_of(task, logits_of(), example_of())
    expected = jax.jit(loss)(logits_of(), gaussians(1.7), VISIBLE)
    assert terms.keys() == {"landmark_loss"}
    np.testing.assert_allclose(terms["landmark_loss"], expected, rtol=1e-5)


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
    logits = maps if squares else logs(maps)
    found = jax.jit(task.decode)({"logits": logits}, None)
    np.testing.assert_allclose(found["points"][:3], POINTS[:3], atol=error)
    expected = (maps if squares else maps / maps.sum((0, 1), keepdims=True)).max((0, 1))
    np.testing.assert_allclose(found["scores"], expected, rtol=1e-4)


def test_settings_of_the_soft_argmax():
    logits = np.full((SIZE, SIZE, 4), -50.0, "f4")
    logits[2, 2], logits[2, 12], logits[2, 3] = 3, 2, 1

    def x(**options):
        decode = jax.jit(make(decode=HeatmapDecode(**options)).decode)
        return float(decode({"logits": logits}, None)["points"][0, 0])

    one, two = np.exp([-1.0, -2.0])
    assert x() == pytest.approx(2.5 + two / (1 + two), rel=1e-5)
    everywhere = 2.5 + (10 * one + two) / (1 + one + two)
    assert x(radius=0) == pytest.approx(everywhere, rel=1e-4)
    assert x(temperature=0.5) == pytest.approx(2.5 + two**2 / (1 + two**2), rel=1e-5)


def test_the_error_is_in_pixels_of_the_original_image():
    found = POINTS + np.float32([[3, 4], [0, 0], [0, -5], [9, 9]])
    logits = logs(gaussians(points=found))
    metrics_of = jax.jit(task_of(method="argmax").metrics)
    for scale, mean in (((1, 1), 10 / 3), ((2, 2), 5 / 3), ((1, 2.5), (np.hypot(3, 1.6) + 2) / 3)):
        example = example_of(placement=np.float32([*scale, 1, 2]))
        total, weight = metrics_of({"logits": logits}, example)["pixel_error"]
        assert weight == 3
        assert total / weight == pytest.approx(mean, rel=1e-3)
    nothing = example_of(visible=np.zeros(4, bool))
    assert metrics_of({"logits": logits}, nothing)["pixel_error"] == (0, 0)


class Coarse(nn.Module):
    """Maps of a side of the images over `stride`."""

    num_classes: int = 1
    stride: int = 2
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images, *, train):
        sides = (self.stride, self.stride)
        return {"logits": nn.Conv(self.num_classes, sides, sides, padding="VALID")(images)}


def test_maps_may_be_smaller_than_the_images():
    decode, half = HeatmapDecode("argmax"), SIZE // 2
    task = landmarks(Coarse(4), INPUTS, landmark_names=NAMES, decode=decode)
    terms = loss_of(task, logits_of(side=half), example_of())
    perfect = gaussians(points=POINTS / 2, size=(half, half))
    expected = jax.jit(heatmap_cross_entropy)(logits_of(side=half), perfect, VISIBLE)
    np.testing.assert_allclose(terms["landmark_loss"], expected, rtol=1e-5)
    found = jax.jit(task.decode)({"logits": logs(perfect)}, None)["points"]
    np.testing.assert_allclose(found[:3], POINTS[:3], atol=1e-3)
    message = "^model gives maps of 5 x 5 for images of 16 x 16 pixels: give a network"
    with pytest.raises(OptionError, match=message):
        landmarks(Coarse(4, 3), INPUTS, landmark_names=NAMES)


def test_maps_may_be_rectangular():
    """Maps of 8 x 16 for images of 16 rows and 32 columns; the stride is that of each axis."""
    task = landmarks(
        Coarse(4), Inputs((16, 32)), landmark_names=NAMES, decode=HeatmapDecode("argmax")
    )
    points = POINTS * np.float32([2, 1])
    maps = logs(gaussians(points=points / 2, size=(8, 16)))
    found = jax.jit(task.decode)({"logits": maps}, None)["points"]
    np.testing.assert_allclose(found[:3], points[:3], atol=1e-3)


def distance(logits, points, visible, *, factor=1.0, key=None, step=0):
    total, weight = normalized_landmark_error(soft_argmax(logits), points, visible, 1.0)
    return {"distance": (factor * total, weight), "t": (step + jax.random.uniform(key), 1.0)}


def test_a_loss_of_the_users_own():
    task = make(loss=functools.partial(distance, factor=2.0))
    flat, key = np.zeros((SIZE, SIZE, 4), "f4"), jax.random.key(2)
    terms = jax.jit(task.loss)({"logits": flat}, example_of(), key=key, step=3)
    total, weight = terms["distance"]
    expected = 2 * np.linalg.norm(POINTS[:3] - SIZE / 2, axis=1).sum()
    assert (float(total), weight) == (pytest.approx(expected, rel=1e-5), 3)
    assert terms["t"] == (3 + np.asarray(jax.jit(jax.random.uniform)(key)), 1)


@pytest.mark.slow
def test_all_augmentation_together():
    steps = (
        aug.ScaleTranslate(scale=(0.8, 1.2), translate=0.1),
        aug.RandomFlip(0.5, swap=(1, 0, 2, 3)),
        aug.RandomHsv(0.1, 1.5, 1.5),
    )
    image = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
    example = example_of(image=image)
    batch = jax.tree.map(lambda x: np.stack([x] * 8), example)
    task, keys = make(*steps), jax.random.split(jax.random.key(0), 8)
    result = jax.device_get(jax.jit(jax.vmap(task.augment))(keys, batch))
    assert result.placement is None, "it no longer describes the image"
    result = result.replace(placement=batch.placement)
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

    def target(self, index):
        return {name: x for name, x in self[index].items() if name != "image"}


@pytest.fixture(scope="module")
def source():
    return SceneLandmarks(Scenes(8))


SMALL = Inputs((32, 32), resize="stretch")
TO_EXAMPLE = ToLandmarks(SMALL, 10)


def trained(source, devices, steps=20, widths=(4, 8), batch_size=8):
    loss = functools.partial(gaussian_loss, sigma=1.5)
    task = make(names=source.class_names, inputs=SMALL, loss=loss, fields={"widths": widths})
    loader = TrainLoader(source, TO_EXAMPLE, batch_size=batch_size, seed=0)
    batches = (next(loader) for _ in range(steps))
    return task, train(task, batches, devices, optimizer=optax.adam(0.05))


@pytest.mark.long
def test_it_learns_the_same_on_one_device_and_on_four(source):
    _, alone = trained(source, 1, steps=40)
    task, shared = trained(source, 4, steps=40)
    np.testing.assert_allclose(shared.losses[:4], alone.losses[:4], rtol=1e-3)
    assert shared.losses[-3:].mean() < shared.losses[:3].mean() - 1.5
    # Filler images change nothing.
    expected, filled = (
        evaluate(task, shared.variables, EvalLoader(source, TO_EXAMPLE, batch_size=size)).metrics
        for size in (8, 12)
    )
    assert filled == pytest.approx(expected, rel=1e-5)
    assert expected.keys() == {"pixel_error"}


@pytest.mark.long
def test_four_scenes_are_overfitted():
    """With an error on the way (points that are off, swapped names) they would not be."""
    source = SceneLandmarks(Scenes(4))
    task, result = trained(source, 1, steps=200, widths=(8, 16, 32), batch_size=4)
    data = EvalLoader(source, TO_EXAMPLE, batch_size=4)
    metrics = evaluate(task, result.variables, data).metrics
    assert metrics["pixel_error"] < 1  # of 96; a pixel of the network's input is 3


DESCRIBED = [
    (gaussian_loss, HeatmapDecode("soft_argmax", radius=2, temperature=0.7)),
    (LOSSES["heatmap_l2_loss"], HeatmapDecode("argmax", softmax=False)),
    (distance, HeatmapDecode()),
]


@pytest.mark.parametrize(("loss", "decode"), slow_but(DESCRIBED, DESCRIBED[:1]))
def test_a_description_gives_the_same_task_for_evaluation(loss, decode):
    task = make(
        aug.RandomFlip(swap=(1, 0, 2, 3)),
        fields={"norm": "batch_norm"},
        loss=loss,
        decode=decode,
    )
    task = with_frozen_statistics(task, ("*",))
    parts = as_json(task)
    again = RESTORE["landmarks"](parts)
    assert again.loss is None
    assert again.class_names == NAMES
    assert again.inputs == INPUTS
    variables = random_values(jax.eval_shape(task.init, jax.random.key(0)))
    image = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
    batch = jax.tree.map(lambda x: np.stack([x] * 2), example_of(image=image))

    def run(task, batch):
        batch = jax.vmap(task.prepare)(batch)
        outputs, _ = task.forward(variables, batch, keys=None, step=0, train=False)
        decoded = jax.vmap(task.decode)(outputs, batch)
        return outputs, decoded, jax.vmap(task.metrics)(outputs, batch)

    expected, found = (jax.jit(functools.partial(run, each))(batch) for each in (task, again))
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert as_json(again)["decode"] == parts["decode"]
    if loss is distance:
        assert parts["loss"]["loss"]["object"].endswith(":distance")
    else:
        name = "heatmap_cross_entropy" if loss is gaussian_loss else "heatmap_l2_loss"
        assert parts["loss"]["loss"] == {"name": name}
    assert dataclasses.replace(task, loss=distance).origin["loss"][0] is not distance
    own = landmarks(Coarse(4), INPUTS, landmark_names=NAMES)
    with pytest.raises(InputError, match="Coarse, which has no name"):
        RESTORE["landmarks"](as_json(own))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make(names=(), fields={"num_classes": 1}), "^landmark_names has 0 names: give at"),
        (lambda: make(names="ab"), "^landmark_names is 'ab': give names"),
        (
            lambda: make(fields={"num_classes": 3}),
            "^model has 3 channels of logits, .* 4 landmarks",
        ),
        (lambda: make(fields={"padding": "valid"}), "^model gives maps that lack the border"),
        (lambda: make(loss=heatmap_l2_loss), "^loss: "),
        (lambda: make(loss=functools.partial(gaussian_loss, gamma=2.0)), "^loss: .*'gamma'"),
        (lambda: make(loss=functools.partial(gaussian_loss, sigma=0.0)), "^loss.sigma is 0"),
        (lambda: make(loss=lambda logits, points: 1), "^loss: <lambda> cannot be called as it is"),
        (lambda: HeatmapDecode(temperature=0.0), "^temperature is 0.0: give more than 0"),
        (lambda: HeatmapDecode(radius=-1), "^radius is -1: give at least 0"),
        (lambda: aug.RandomFlip(swap=(1, 2)), r"^swap is \(1, 2\): give for each point"),
    ],
)
def test_options_that_do_not_fit_are_clear_errors(call, message):
    with pytest.raises(OptionError, match=message):
        call()


def test_an_unknown_method_lists_the_known_ones():
    with pytest.raises(InputError, match=r"unknown method 'max': .*argmax"):
        HeatmapDecode("max")


def test_an_exchange_of_another_number_of_points_is_refused():
    with pytest.raises(OptionError, match=r"^augment.swap has 3 numbers: give 4, one for each"):
        make(aug.RandomFlip(swap=(1, 0, 2)))
