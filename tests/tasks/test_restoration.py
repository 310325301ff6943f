"""The restoration task: what is degraded, what is learnt, and the measure of whole photographs."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sklearn.datasets

from jaxvision import augment as aug
from jaxvision.augment import downscale, downscale_upscale
from jaxvision.core import InputError, Inputs, OptionError
from jaxvision.data import RandomPatches, Tiles, ToRestoration, cut_tile
from jaxvision.losses import huber_loss, l1_loss, l2_loss
from jaxvision.metrics import psnr, ssim
from jaxvision.models import create_model
from jaxvision.tasks import (
    RESTORE,
    Downscale,
    DownscaleUpscale,
    GaussianNoise,
    Restoration,
    protocol,
    reach,
    restoration,
    with_frozen_statistics,
)
from jaxvision.tasks.reach import reach_of
from tests.marks import long_but, slow_but
from tests.models.variables import random_values
from tests.reference.ops.resize import resize_bicubic as imresize
from tests.tasks.loop import as_json, evaluate, train, with_filler

TILE, MARGIN = 24, 8
WIDE = {"tile": 60, "margin": 27}  # for networks that look further
MEASURED = ("tile", "margin", "crop_border", "modcrop", "border")


class Arrays:
    """Photographs in memory."""

    class_names = ()

    def __init__(self, *images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return {"image": self.images[index]}

    def target(self, index):
        return {}

    def where(self, index):
        return f"photograph {index}"


def make(model, degradation, *augment, size=12, color="grey", tile=TILE, margin=MARGIN, **options):
    return restoration(
        model,
        Inputs((size, size)),
        degradation=degradation,
        color=color,
        augment=augment,
        tile=tile,
        margin=margin,
        **options,
    )


def denoiser(*augment, sigma=(25.0, 25.0), **options):
    model = create_model("dncnn_s", depth=3, width=8)
    return make(model, GaussianNoise(sigma), *augment, **options)


def enlarger(name, *augment, fields=(), **options):
    network, degradation = {
        "srcnn": ("srcnn_915", DownscaleUpscale(3)),
        "espcn": ("espcn", Downscale(3)),
    }[name]
    model = create_model(network, widths=(4, 4), **dict(fields))
    options = {"degradation": degradation, "color": "luminance", **WIDE, **options}
    return make(model, options.pop("degradation"), *augment, **options)


@functools.cache
def task_of(name):
    return denoiser(aug.Symmetry()) if name == "noise" else enlarger(name, aug.Symmetry())


def crops(*sizes):
    """Parts of a real photograph."""
    photo = sklearn.datasets.load_sample_image("flower.jpg")
    return Arrays(*(photo[200 : 200 + height, 300 : 300 + width].copy() for height, width in sizes))


def batch_of(source):
    examples = [ToRestoration()(source[index], "x") for index in range(len(source))]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *examples)


def first(batch):
    return jax.tree.map(lambda x: x[0], batch)


@pytest.mark.slow
def test_noise_follows_from_the_seed_and_training_draws_another():
    task = task_of("noise")
    example = first(batch_of(Tiles(crops((24, 24)), size=TILE, margin=0)))
    prepare, augment = jax.jit(task.prepare), jax.jit(task.augment)
    once, again = (jax.device_get(prepare(example)) for _ in range(2))
    grey = example.image @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(255 * once.target[..., 0], np.rint(grey), atol=1e-3)
    noise = np.asarray(255 * (once.image - once.target))
    assert abs(noise.std() - 25) < 2
    np.testing.assert_array_equal(once.image, again.image)
    keys = jax.random.split(jax.random.key(3), 2)
    changed = [jax.device_get(augment(key, example)) for key in keys]
    assert len({int(x.seed) for x in (example, *changed)}) == 3
    same_pixels = np.sort(example.image.reshape(-1, 3), axis=0)
    for other in changed:
        np.testing.assert_array_equal(np.sort(other.image.reshape(-1, 3), axis=0), same_pixels)


@pytest.mark.slow
def test_super_resolution_begins_with_fewer_pixels():
    example = first(batch_of(Tiles(crops((24, 24)), size=TILE, margin=0)))
    light = 255 * np.asarray(jax.jit(task_of("espcn").prepare)(example).target)
    for name, degrade in (("srcnn", downscale_upscale), ("espcn", downscale)):
        image = 255 * jax.jit(task_of(name).prepare)(example).image
        expected = jax.jit(functools.partial(degrade, factor=3))(light)
        np.testing.assert_allclose(image, expected, atol=1e-3)
    assert 16 <= light.min() < light.max() <= 235


@pytest.mark.parametrize("name", ["noise", "srcnn", "espcn"])
def test_the_loss_is_the_mean_square_and_0_for_the_target_itself(name):
    task = task_of(name)
    example = first(batch_of(Tiles(crops((24, 24)), size=TILE, margin=0)))
    example = jax.device_get(jax.jit(task.prepare)(example))
    exact = {"image": example.target}
    loss = jax.jit(functools.partial(task.loss, key=None, step=0))
    total, weight = loss(exact, example)["restoration_loss"]
    assert (total, weight) == (0, 24 * 24)
    off = {"image": example.target[3:-3, 3:-3] + 0.5}  # as of a network without padding
    total, weight = loss(off, example)["restoration_loss"]
    np.testing.assert_allclose(total / weight, 0.25, rtol=1e-5)


def test_a_pixel_looks_as_far_as_the_layers_say():
    """3x3 convolutions look 1 away; 9-1-5 looks 6 away, and cubic kernels 2 cells, before and
    after; a network may be wider than a tile."""
    cases = [
        (create_model("dncnn_s", depth=3, width=8), GaussianNoise(quantize=True), 24, 3),
        (create_model("dncnn_s", depth=3, width=8), GaussianNoise(), 6, 6),
        (create_model("srcnn_915", widths=(4, 4)), DownscaleUpscale(3), 60, 6 + 12),
    ]
    for model, degradation, side, expected in cases:
        assert reach_of(model, degradation, channels=1, side=side) == expected
    assert denoiser(margin=None).margin == 3 + 5
    assert enlarger("srcnn", margin=None).margin == 24


def test_without_cpus_rounding_is_no_change(monkeypatch):
    """JAX_PLATFORMS=cuda leaves the CPUs out."""

    def no_cpus(*, backend):
        raise RuntimeError(f"Unknown backend {backend}")

    exact = reach._changes
    monkeypatch.setattr(reach, "_changes", lambda *arguments: exact(*arguments) + 1e-9)
    monkeypatch.setattr(jax, "local_devices", no_cpus)
    model = create_model("dncnn_s", depth=3, width=8)
    assert reach._reach(model, GaussianNoise(), 1, 24) == 3


class Gated(nn.Module):
    """Each pixel times a gate that depends on all of them, as with squeeze-and-excitation."""

    @nn.compact
    def __call__(self, images, *, train):
        gate = nn.sigmoid(nn.Dense(1)(images.mean(axis=(1, 2), keepdims=True)))
        return {"image": images * gate}


def test_a_network_that_looks_at_the_whole_image_needs_a_margin(caplog):
    assert make(Gated(), GaussianNoise(), margin=6).margin == 6
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "whole tile of 24 pixels or on more, so tiles do not give quite" in caplog.text
    with pytest.raises(OptionError, match=r"^tile is 24, and .* or a margin, if the network looks"):
        make(Gated(), GaussianNoise(), margin=None)
    with pytest.raises(OptionError, match=r"^margin is 12: give at least 5 and less than 12"):
        make(Gated(), GaussianNoise(), margin=12)


@pytest.mark.slow
def test_noise_may_be_that_of_a_file():
    image, key = np.float32([0, 100, 255]).repeat(300).reshape(30, 30, 1), jax.random.key(0)
    plain, quantized = (GaussianNoise((25.0, 25.0), quantize=q)(key, image) for q in (False, True))
    assert plain.min() < 0
    assert plain.max() > 255
    np.testing.assert_array_equal(quantized, np.clip(np.round(plain), 0, 255))


def test_the_luminance_is_matlabs_and_that_of_grey_files_is_their_own():
    """MATLAB's rgb2ycbcr gives 16, 235, 81, 145 and 41 for black, white, red, green and blue."""
    colors = np.uint8([[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]])
    image = np.resize(colors, (60, 60, 3))
    grey = np.resize(np.uint8([0, 255, 100]), (60, 60, 1))
    batch = batch_of(Tiles(Arrays(image, grey), size=60, margin=0))
    targets = {}
    for color in ("luminance", "grey"):
        task = enlarger("srcnn", color=color)
        targets[color] = 255 * jax.jit(jax.vmap(task.prepare))(batch).target[..., 0]
    y, values = targets["luminance"]
    np.testing.assert_allclose(y[0, :5], [16, 235, 81, 145, 41], atol=1e-4)
    np.testing.assert_allclose(values, grey[..., 0], atol=1e-4)
    y, values = targets["grey"]
    np.testing.assert_allclose(y[0, :5], [0, 255, 76, 150, 29], atol=1e-4)
    np.testing.assert_allclose(values, grey[..., 0], atol=1e-4)


@pytest.mark.slow
def test_the_protocol_of_srcnn_is_that_of_the_whole_image():
    """Against MATLAB's steps on whole images in plain numpy: a colour file and a grey one."""
    task = enlarger("srcnn", **{**protocol("srcnn", DownscaleUpscale(3)), "margin": None})
    color, grey = crops((37, 80), (40, 35)).images
    source = Arrays(color, grey[..., :1])
    how = {"margin": task.margin, "modcrop": task.modcrop, "border": task.border}
    batch = batch_of(Tiles(source, size=task.tile, **how))
    batch = jax.device_get(jax.jit(jax.vmap(task.prepare))(batch))
    numbers = measure(task, batch, batch.image)

    light = np.rint(16 + color @ np.array([65.481, 128.553, 24.966]) / 255)[..., None]
    expected = {"psnr": [], "ssim": []}
    for image in (light, np.float64(grey[..., :1])):
        height, width = (side - side % 3 for side in image.shape[:2])
        image = image[:height, :width]
        small = imresize(image, (height // 3, width // 3))
        before = np.clip(np.rint(imresize(small, (height, width))), 0, 255)
        cut = np.float32([before, image])[:, 3:-3, 3:-3]
        expected["psnr"].append(10 * np.log10(255**2 / ((cut[0] - cut[1]) ** 2).mean()))
        expected["ssim"].append(
            float(jax.jit(ssim, static_argnames="data_range")(*cut, data_range=255)[0])
        )
    for name, values in expected.items():
        assert numbers[f"{name}_before"] == pytest.approx(np.mean(values), rel=2e-4), name
        assert numbers[name] == pytest.approx(numbers[f"{name}_before"], rel=1e-4)


@pytest.mark.slow
def test_the_protocol_of_dncnn_is_that_of_the_whole_image():
    """With a network that pads its maps with zeros, and without noise, which each tile draws."""
    model = create_model("dncnn_s", depth=3, width=4)
    task = make(model, tile=32, margin=None, **protocol("dncnn", GaussianNoise((0.0, 0.0))))
    source = crops((50, 41), (32, 60))
    variables = random_values(jax.eval_shape(task.init, jax.random.key(0)))
    tiles = Tiles(source, size=32, margin=task.margin, border=task.border)
    numbers = evaluate(task, variables, [batch_of(tiles)]).metrics
    expected = []
    for image in source.images:
        grey = np.rint(image @ np.float32([0.299, 0.587, 0.114]))[None, ..., None]
        found = model.apply(variables, grey / 255, train=False)["image"]
        found = np.clip(np.rint(255 * found), 0, 255)
        expected.append(10 * np.log10(255**2 / ((found - grey) ** 2).mean()))
    assert numbers["psnr"] == pytest.approx(np.mean(expected), rel=1e-4)


def test_a_border_that_leaves_nothing_is_an_error():
    task = denoiser(crop_border=12)
    collected = {name: np.zeros(2) for name in ("photograph", "pixels", "windows")}
    with pytest.raises(InputError, match=r"^crop_border is 12, which leaves nothing of an image"):
        task.dataset_metric.summarize(collected, [{}] * 2)


def measure(task, batch, images):
    metric = task.dataset_metric
    collect = jax.jit(jax.vmap(lambda image, example: metric.collect({"image": image}, example)))
    collected = jax.device_get(collect(images, batch))
    numbers, tables = metric.summarize(collected, [{}] * len(batch.mask))
    assert tables == {}
    assert set(metric.names) == numbers.keys()
    return numbers


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_the_measure_of_tiles_is_that_of_the_whole_photographs(lost):
    """Against PSNR and SSIM of the photographs, put together from the tiles by hand."""
    task, source = task_of("noise"), crops((30, 41), (17, 12))
    tiles = Tiles(source, size=TILE, margin=MARGIN)
    batch = jax.device_get(jax.jit(jax.vmap(task.prepare))(batch_of(tiles)))
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
    batch = batch_of(Tiles(crops((24, 30)), size=task.tile, margin=task.margin))
    batch = jax.device_get(jax.jit(jax.vmap(task.prepare))(batch))
    exact = np.round(255 * batch.target) / 255
    batch = batch.replace(target=exact)
    numbers = measure(task, batch, exact)
    assert numbers["psnr"] == 100
    assert numbers["ssim"] == pytest.approx(1, abs=1e-6)
    assert 15 < numbers["psnr_before"] < 40
    collect = jax.jit(jax.vmap(task.dataset_metric.collect))
    collected = jax.tree.map(lambda x: x[:0], jax.device_get(collect({"image": exact}, batch)))
    assert task.dataset_metric.summarize(collected, []).numbers == dict.fromkeys(numbers, 0.0)


@pytest.mark.parametrize("name", long_but(["noise", "srcnn", "espcn"], [], ["noise"]))
def test_it_learns_the_same_on_one_device_and_on_four(name):
    task = task_of(name)
    batch = batch_of(RandomPatches(crops((60, 80)), size=12, count=8))
    alone, shared = (train(task, [batch] * 30, n, optimizer=optax.adam(0.01)) for n in (1, 4))
    np.testing.assert_allclose(shared.losses[:3], alone.losses[:3], rtol=1e-3)
    assert shared.losses[-5:].mean() < 0.7 * shared.losses[:3].mean()
    # Filler images change nothing.
    batch = batch_of(Tiles(crops((24, 24)), size=task.tile, margin=task.margin))
    expected = evaluate(task, shared.variables, [batch]).metrics
    found = evaluate(task, shared.variables, [with_filler(batch, 4)]).metrics
    assert found == pytest.approx(expected, rel=1e-5)
    assert expected.keys() == {"psnr", "ssim", "psnr_before", "ssim_before"}


def test_decode_gives_the_image_in_8_bits_as_floats():
    image = np.float32([-0.1, 0.0, 0.4999, 1.0, 1.2]).reshape(1, 5, 1)
    found = jax.jit(task_of("noise").decode)({"image": image}, None)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[0, :, 0], [0, 0, 127, 255, 255])


def test_a_task_tells_prediction_how_it_treats_images():
    noise, srcnn, espcn = map(task_of, ("noise", "srcnn", "espcn"))
    for task in (noise, srcnn, espcn):
        assert isinstance(task, Restoration)
        assert (task.tile, task.margin) == ((TILE, MARGIN) if task is noise else (60, 27))
    facts = [(task.color, task.factor, task.enlarged) for task in (noise, srcnn, espcn)]
    assert facts == [("grey", 1, False), ("luminance", 3, True), ("luminance", 3, False)]


def my_loss(image, target, *, key, step, power=2):
    error = (jnp.abs(image - target) ** power).sum()
    return {"mine": (error, 1.0), "t": (step + jax.random.uniform(key), 1.0)}


def test_losses_of_the_library_and_of_ones_own():
    example = first(batch_of(Tiles(crops((24, 24)), size=24, margin=0)))
    example = jax.device_get(jax.jit(task_of("noise").prepare)(example))
    outputs, key = {"image": example.image}, jax.random.key(1)
    for loss in (l1_loss, functools.partial(huber_loss, delta=0.1)):
        terms = jax.jit(denoiser(loss=loss).loss)(outputs, example, key=key, step=0)
        expected = jax.jit(loss)(example.image, example.target)
        np.testing.assert_allclose(terms["restoration_loss"], expected, rtol=1e-6)
    task = denoiser(loss=functools.partial(my_loss, power=4))
    terms = jax.jit(task.loss)(outputs, example, key=key, step=2)
    expected = ((example.image - example.target) ** 4).sum()
    np.testing.assert_allclose(terms["mine"][0], expected, rtol=1e-5)
    assert terms["t"] == (2 + np.asarray(jax.jit(jax.random.uniform)(key)), 1)


@pytest.mark.parametrize("name", slow_but(["noise", "srcnn", "espcn"], ["noise", "espcn"]))
def test_a_description_gives_the_same_task_for_evaluation(name):
    if name == "noise":
        task = denoiser(aug.Symmetry(), loss=functools.partial(huber_loss, delta=0.1), size=18)
        task = with_frozen_statistics(task, ("*",))
    else:
        how = {"crop_border": 3, "modcrop": 3, "border": "symmetric"}
        task = enlarger(name, loss=my_loss, **how)
        assert {key: getattr(task, key) for key in how} == how
    parts = as_json(task)
    again = RESTORE["restoration"](parts)
    assert again.loss is None
    assert again.inputs == task.inputs
    for fact in ("color", "factor", "enlarged", "class_names", *MEASURED):
        assert getattr(again, fact) == getattr(task, fact)
    variables = random_values(jax.eval_shape(task.init, jax.random.key(0)))
    batch = batch_of(Tiles(crops((24, 30)), size=task.tile, margin=task.margin))

    def run(task):
        prepared = jax.vmap(task.prepare)(batch)
        outputs, _ = task.forward(variables, prepared, keys=None, step=0, train=False)
        return prepared, outputs, jax.vmap(task.decode)(outputs, prepared)

    expected, found = (jax.jit(functools.partial(run, each))() for each in (task, again))
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert as_json(again)["prepare"] == parts["prepare"]
    if name != "noise":
        assert parts["loss"]["loss"]["object"].endswith(":my_loss")
    assert dataclasses.replace(task, loss=my_loss).origin["loss"][0] is not my_loss


class Same(nn.Module):
    """A network, and a degradation, of a user's own."""

    channels: int = 1

    @nn.compact
    def __call__(self, images, *, train):
        return {"image": nn.Dense(self.channels)(images)}


class Darker:
    factor, enlarged = 1, False

    def __call__(self, key, image):
        return image / 2


def test_a_network_and_a_degradation_of_ones_own():
    task = make(Same(), Darker(), loss=l2_loss)
    example = first(batch_of(Tiles(crops((24, 24)), size=24, margin=0)))
    example = jax.device_get(jax.jit(task.prepare)(example))
    np.testing.assert_allclose(2 * example.image, example.target, rtol=1e-6)
    parts = as_json(task)
    with pytest.raises(InputError, match="Same, which has no name"):
        RESTORE["restoration"](parts)
    parts["forward"] = as_json(denoiser())["forward"]
    with pytest.raises(InputError, match="Darker, which has no name"):
        RESTORE["restoration"](parts)


BY_SIDE = {
    "resize": "shorter_side",
    "shorter_side": 8,
    "longer_side": 12,
    "multiple_of": 4,
    "shapes": "buckets",
}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: GaussianNoise((25.0, 5.0)), "^sigma is 5.0: give at least 25.0"),
        (lambda: GaussianNoise((-1.0, 5.0)), "^sigma is -1.0: give at least 0"),
        (lambda: Downscale(1), "^factor is 1: give at least 2"),
        (
            lambda: enlarger("srcnn", size=13),
            "^degradation: of squares of size, 13 pixels: the image",
        ),
        (
            lambda: enlarger("srcnn", tile=25),
            "^degradation: of squares of tile, 25 pixels: the image",
        ),
        (lambda: enlarger("srcnn", margin=25), "^margin is 25: give a multiple of 3"),
        # 9-1-5 looks 6 away, the bicubic kernels 12, and SSIM 5.
        (
            lambda: enlarger("srcnn", size=15, margin=21, fields={"padding": "valid"}),
            "^margin is 21: give at least 23 and less than 30",
        ),
        (
            lambda: enlarger("srcnn", size=15, margin=9, loss=None, fields={"padding": "valid"}),
            "^margin is 9: give at least 11 and less than 30",
        ),
        (
            lambda: enlarger("srcnn", tile=48, margin=None),
            "^tile is 48: give more than 48, as a restored pixel depends on pixels 18 away$",
        ),
        (
            lambda: denoiser(tile=6, size=6, margin=None),
            "^tile is 6, and a restored pixel depends on all of it: give a larger tile; or a m",
        ),
        (lambda: denoiser(crop_border=-1), "^crop_border is -1: give at least 0"),
        (lambda: denoiser(modcrop=0), "^modcrop is 0: give at least 1"),
        (lambda: enlarger("espcn", border="zeros"), "^modcrop is 1: with border 'zeros' give a mu"),
        (
            lambda: enlarger("srcnn", size=15, border="zeros", fields={"padding": "valid"}),
            "^border is 'zeros', but model takes 6 pixels off each side: give 'reflect' or",
        ),
        (
            lambda: protocol("srcnn", GaussianNoise()),
            "^protocol is 'srcnn', which is not for Gauss",
        ),
        (
            lambda: enlarger("espcn", degradation=DownscaleUpscale(3)),
            "^model makes 36 x 36 pixels of degraded squares of 12 x 12",
        ),
        (lambda: denoiser(margin=12), "^margin is 12: give at least 8 and less than 12"),
        (lambda: denoiser(margin=7), "^margin is 7: give at least 8"),
        (lambda: denoiser(loss=functools.partial(l2_loss, delta=1.0)), "^loss: .*'delta'"),
        (lambda: denoiser(loss=functools.partial(huber_loss, delta=-1.0)), "^loss.delta is -1.0"),
        (lambda: denoiser(loss=lambda image, target: image), "^loss: the loss returns"),
        (lambda: make(create_model("lenet5"), GaussianNoise()), "^model: .*32x32 images"),
        (
            lambda: make(create_model("unet", widths=(4,)), GaussianNoise()),
            "^model gives no map 'ima",
        ),
        (
            lambda: make(Same(3), GaussianNoise()),
            "^model has 3 channels of image, but there are 1 ",
        ),
        (
            lambda: restoration(Same(), Inputs((12, 16)), color="grey", tile=TILE, margin=MARGIN),
            r"^size is \(12, 16\): patches are square",
        ),
        (
            lambda: restoration(Same(), Inputs(**BY_SIDE), color="grey", tile=TILE, margin=MARGIN),
            r"^size is \(8, 12\): patches are square",
        ),
        (lambda: restoration(Same(3), Inputs((12, 12), channels=1)), "^channels is 1: give 3, as"),
        (lambda: denoiser(aug.ClassMixup(3)), "^augment: "),
    ],
)
def test_options_that_do_not_fit_are_clear_errors(call, message):
    with pytest.raises(OptionError, match=message):
        call()


def test_an_unknown_color_lists_the_close_ones():
    with pytest.raises(InputError, match="unknown color 'gray': did you mean 'grey'"):
        denoiser(color="gray")
