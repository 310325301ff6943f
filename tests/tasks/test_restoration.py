"""The restoration task: what is spoilt, what is learnt, and the measure of whole photographs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sklearn.datasets

from jaxvision.augment import downscale, downscale_upscale
from jaxvision.cli.config import default_config
from jaxvision.core import InputError
from jaxvision.data import RandomPatches, Tiles, cut_tile, to_restoration_example
from jaxvision.engine import Optimizer, Parallel, init_state, make_evaluate, make_update
from jaxvision.metrics import psnr, ssim
from jaxvision.tasks import restoration
from tests.data.test_restoration import Arrays

TILE, MARGIN = 24, 6


def config_of(**changes):
    config = default_config("restoration")
    config.data.image_size = 12
    config.data.tile, config.data.margin = TILE, MARGIN
    config.data.color = "grey"
    config.model.name = "dncnn_s"
    with config.unlocked():
        config.model.update({"depth": 3, "width": 8})
        for key, value in changes.items():
            *groups, last = key.split("__")
            group = functools.reduce(getattr, groups, config)
            if value is None:
                del group[last]
            else:
                group[last] = value
    return config


NOISE = {"degradation__sigma": (25.0, 25.0)}
SRCNN = {
    "model__name": "srcnn_915",
    "model__depth": None,
    "model__width": None,
    "model__widths": (4, 4),
    "degradation__name": "downscale_upscale",
    "degradation__factor": 3,
    "data__color": "luminance",
}
ESPCN = {**SRCNN, "model__name": "espcn", "degradation__name": "downscale"}


@functools.cache
def task_of(name):
    return restoration(config_of(**{"noise": NOISE, "srcnn": SRCNN, "espcn": ESPCN}[name]))


def crops(*sizes):
    """Parts of a real photograph."""
    photo = sklearn.datasets.load_sample_image("flower.jpg")
    return Arrays(*(photo[200 : 200 + height, 300 : 300 + width].copy() for height, width in sizes))


def batch_of(source):
    examples = [to_restoration_example(source[index], "x") for index in range(len(source))]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *examples)


def first(batch):
    return jax.tree.map(lambda x: x[0], batch)


def test_noise_follows_from_the_seed_and_training_draws_another():
    task = task_of("noise")
    example = first(batch_of(Tiles(crops((24, 24)), size=TILE, margin=0)))
    once, again = (jax.jit(task.prepare)(example) for _ in range(2))
    grey = example.image @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(255 * once.target[..., 0], grey, atol=1e-3)
    noise = np.asarray(255 * (once.image - once.target))
    assert abs(noise.std() - 25) < 2
    np.testing.assert_array_equal(once.image, again.image)
    keys = jax.random.split(jax.random.key(3), 2)
    changed = [jax.jit(task.augment)(key, example) for key in keys]
    assert len({int(x.seed) for x in (example, *changed)}) == 3
    same_pixels = np.sort(example.image.reshape(-1, 3), axis=0)
    for other in changed:
        np.testing.assert_array_equal(np.sort(other.image.reshape(-1, 3), axis=0), same_pixels)


def test_super_resolution_begins_with_fewer_pixels():
    example = first(batch_of(Tiles(crops((24, 24)), size=TILE, margin=0)))
    light = 255 * np.asarray(task_of("espcn").prepare(example).target)
    for name, spoil in (("srcnn", downscale_upscale), ("espcn", downscale)):
        image = 255 * task_of(name).prepare(example).image
        np.testing.assert_allclose(image, spoil(light, factor=3), atol=1e-3)
    assert 16 <= light.min() < light.max() <= 235


@pytest.mark.parametrize("name", ["noise", "srcnn", "espcn"])
def test_the_loss_is_the_mean_square_and_0_for_the_target_itself(name):
    task = task_of(name)
    example = task.prepare(first(batch_of(Tiles(crops((24, 24)), size=TILE, margin=0))))
    exact = {"image": example.target}
    total, weight = task.loss(exact, example, key=None, step=0)["restoration_loss"]
    assert (total, weight) == (0, 24 * 24)
    off = {"image": example.target[3:-3, 3:-3] + 0.5}  # as of a network without padding
    total, weight = task.loss(off, example, key=None, step=0)["restoration_loss"]
    np.testing.assert_allclose(total / weight, 0.25, rtol=1e-5)


def measure(task, batch, images):
    collect = jax.jit(jax.vmap(lambda image, example: task.collect({"image": image}, example)))
    return task.summarize(jax.device_get(collect(images, batch)))


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_the_measure_of_tiles_is_that_of_the_whole_photographs(lost):
    """Against PSNR and SSIM of the photographs, put together from the tiles by hand."""
    task, source = task_of("noise"), crops((30, 41), (17, 12))
    tiles = Tiles(source, size=TILE, margin=MARGIN)
    batch = jax.jit(jax.vmap(task.prepare))(batch_of(tiles))
    rng = np.random.default_rng(1)
    errors = [0.1 * rng.normal(size=(*image.shape[:2], 1)) for image in source.images]
    made = np.asarray(batch.target) + [
        cut_tile(errors[int(example.photograph)], tuple(example.origin), TILE)
        for example in (jax.tree.map(lambda x, i=i: x[i], batch) for i in range(len(tiles)))
    ]
    cut = slice(lost, TILE - lost)
    numbers = measure(task, batch, made[:, cut, cut])

    expected = {"psnr": [], "ssim": [], "psnr_before": [], "ssim_before": []}
    for number, image in enumerate(source.images):
        height, width = image.shape[:2]
        whole = np.zeros((3, height + 40, width + 40, 1), np.float32)
        for index in range(len(tiles)):
            record = tiles[index]
            if record["photograph"] != number:
                continue
            row, column = (start + MARGIN for start in record["origin"])
            inside = slice(MARGIN, TILE - MARGIN)
            side = TILE - 2 * MARGIN
            for of_kind, values in zip(
                whole, (made[index], batch.image[index], batch.target[index]), strict=True
            ):
                of_kind[row : row + side, column : column + side] = values[inside, inside]
        found, before, target = (x[:height, :width] for x in whole)
        for kind, values in (("", found), ("_before", before)):
            rounded = np.round(np.clip(255 * values, 0, 255))
            expected[f"psnr{kind}"].append(float(psnr(rounded, 255 * target, data_range=255)[0]))
            expected[f"ssim{kind}"].append(float(ssim(rounded, 255 * target, data_range=255)[0]))
    assert numbers.keys() == expected.keys()
    for name, values in expected.items():
        # Overlapping tiles have noise of their own, and so have windows at what they keep.
        tolerance = 2e-2 if name == "ssim_before" else 1e-4
        assert numbers[name] == pytest.approx(np.mean(values), rel=tolerance), name


@pytest.mark.slow
def test_a_perfect_photograph_and_none_at_all():
    task = task_of("espcn")
    batch = jax.vmap(task.prepare)(batch_of(Tiles(crops((24, 30)), size=TILE, margin=MARGIN)))
    exact = jnp.round(255 * batch.target) / 255
    batch = batch.replace(target=exact)
    numbers = measure(task, batch, exact)
    assert numbers["psnr"] == 100
    assert numbers["ssim"] == pytest.approx(1, abs=1e-6)
    assert 15 < numbers["psnr_before"] < 40
    collected = jax.tree.map(
        lambda x: x[:0], jax.device_get(jax.vmap(task.collect)({"image": exact}, batch))
    )
    assert task.summarize(collected) == dict.fromkeys(numbers, 0.0)


def run(name, devices, steps=30):
    task = task_of(name)
    parallel = Parallel("pmap", jax.devices()[:devices])
    transformation = optax.with_extra_args_support(optax.adam(0.01))
    optimizer = Optimizer(transformation, lambda _: 0.01)
    update = make_update(task, optimizer, seed=0, parallel=parallel)
    state = parallel.replicate(init_state(task, optimizer, 0))
    batch = batch_of(RandomPatches(crops((60, 80)), size=12, count=8))
    losses = []
    for _ in range(steps):
        state, record = update(state, parallel.shard(batch))
        losses.append(float(record["loss"]))
    return task, parallel, state, np.array(losses)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["noise", "srcnn", "espcn"])
def test_it_learns_the_same_on_one_device_and_on_four(name):
    _, _, _, alone = run(name, 1)
    task, parallel, state, losses = run(name, 4)
    np.testing.assert_allclose(losses[:3], alone[:3], rtol=1e-3)
    assert losses[-5:].mean() < 0.7 * losses[:3].mean()
    # Filler images change nothing.
    evaluate = make_evaluate(task, parallel=parallel)
    batch = batch_of(Tiles(crops((24, 24)), size=TILE, margin=MARGIN))
    filled = jax.tree.map(lambda x: np.concatenate([x, np.zeros_like(x)]), batch)
    expected = evaluate(state, [batch]).metrics
    assert evaluate(state, [filled]).metrics == pytest.approx(expected, rel=1e-5)
    assert expected.keys() == {"psnr", "ssim", "psnr_before", "ssim_before"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__color": "gray"}, "unknown config.data.color 'gray': did you mean 'grey'"),
        ({"degradation__name": "blur"}, "unknown degradation 'blur'"),
        ({"degradation__sigma": (25.0, 5.0)}, "config.degradation, .*the second of sigma is 5"),
        ({"degradation__factor": 3}, "config.degradation, .*unexpected keyword"),
        ({**SRCNN, "data__image_size": 13}, "config.degradation, of squares of config.data.image"),
        ({**SRCNN, "data__margin": 7}, "config.data.margin is 7: give a multiple of 3"),
        (
            {**SRCNN, "model__padding": "valid", "data__image_size": 15, "data__margin": 9},
            "config.data.margin is 9: give at least 11 and less than",
        ),
        ({**ESPCN, "degradation__name": "downscale_upscale"}, "espcn makes 36 x 36 pixels of"),
        ({"data__margin": 12}, "is 12: give at least 5 and less than 12"),
        ({"data__margin": 4}, "config.data.margin is 4: give at least 5"),
        ({"loss__name": "l3_loss"}, "unknown loss 'l3_loss'"),
        ({"loss__delta": 1.0}, "config.loss: l2_loss got other options"),
        ({"model__name": "lenet5", "model__depth": None, "model__width": None}, "32x32 images"),
    ],
)
def test_settings_that_do_not_fit_are_clear_errors(changes, message):
    with pytest.raises(InputError, match=message):
        restoration(
            config_of(**{**NOISE, **changes} if "degradation__name" not in changes else changes)
        )
