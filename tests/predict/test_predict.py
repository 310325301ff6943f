"""Predictions of every kind: in pixels of the original image, in batches, by tiles."""

import dataclasses
import itertools
import pathlib
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jaxvision.predict as package
from jaxvision.augment import rgb_to_ycbcr, ycbcr_to_rgb
from jaxvision.core import IGNORED, Detections, InputError, Inputs, Task
from jaxvision.data import read_image
from jaxvision.data.transforms.placing import fit_image
from jaxvision.models import create_model
from jaxvision.ops import Placement, decode_mask, resize_bicubic
from jaxvision.predict import (
    DetectedObjects,
    Failed,
    Prediction,
    labels_of_original,
    predict,
    predict_in_tiles,
    restorer_of,
)
from tests.marks import slow_but
from tests.models.variables import random_variables
from tests.predict.tiny_tasks import task_of
from tests.reference.ops.mask_pasting import pasted


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.fixture
def files(tmp_path):
    """A wide, a high and a small image, and a file that is not an image."""
    sizes = {"wide": (32, 64), "high": (64, 16), "small": (8, 8)}
    paths = []
    for number, (name, size) in enumerate(sizes.items(), start=1):
        paths.append(tmp_path / f"{name}.png")
        Image.fromarray(np.full((*size, 3), 50 * number, np.uint8)).save(paths[-1])
    (tmp_path / "broken.png").write_bytes(b"no picture")
    return [*paths[:1], tmp_path / "broken.png", *paths[1:]]


# Classification.


def classifier(**fields):
    """The logits are the means of red, green and blue, divided by 50."""
    return task_of(
        "classification",
        lambda variables, images: variables["scale"] * images.mean(axis=(1, 2)),
        lambda outputs, example: {
            "label": jnp.argmax(outputs),
            "probabilities": jax.nn.softmax(outputs),
        },
        **fields,
    )


SCALE = {"scale": np.float32(1 / 50)}


def test_classes_and_their_probabilities():
    colors = np.array([[200, 10, 20], [20, 10, 200], [50, 60, 40]])
    images = [np.full((9, 7, 3), color, np.uint8) for color in colors]
    task = classifier(class_names=("red", "green", "blue"))
    found = list(predict(task, SCALE, images))
    assert [x.result["label"] for x in found] == ["red", "blue", "green"]
    assert [x.result["index"] for x in found] == [0, 2, 1]
    for x, color, image in zip(found, colors, images, strict=True):
        expected = np.exp(color / 50) / np.exp(color / 50).sum()
        np.testing.assert_allclose(x.result["probabilities"], expected, rtol=1e-5)
        np.testing.assert_array_equal(x.image, image)
    (nameless,) = predict(classifier(), SCALE, images[1:2])
    assert (nameless.result["label"], nameless.result["index"]) == (None, 2)


# Detection.


def finds(boxes=((8, 4, 16, 12), (1, 1, 2, 2)), **more):
    """Two objects in every image, of which the second is invalid; the score shows the image."""

    def decode(outputs, example):
        given = {name: jnp.asarray(x) for name, x in more.items()}
        return Detections(
            boxes=jnp.array(boxes, jnp.float32),
            scores=outputs / jnp.array([255, 255], jnp.float32),
            labels=jnp.array([1, 0]),
            valid=jnp.array([True, False]),
            **given,
        )

    return decode


def detector(decode=None, **fields):
    return task_of(
        "detection",
        lambda variables, images: images.max(axis=(1, 2, 3))[:, None],
        decode or finds(),
        class_names=("cat", "dog"),
        **fields,
    )


@pytest.mark.parametrize("batch_size", slow_but([1, 3, 8], [3]))
def test_boxes_are_in_pixels_of_each_file_and_a_bad_file_stops_nothing(files, batch_size):
    wide, broken, high, small = predict(detector(), {}, files, batch_size=batch_size)
    assert broken == Failed(files[1], broken.reason)
    assert str(files[1]) in broken.reason
    assert [x.source for x in (wide, high, small)] == [files[0], files[2], files[3]]
    # The input of 16 x 32 is 64 x 32, 16 x 64 and 8 x 8 pixels of the files.
    np.testing.assert_allclose(wide.result.boxes, [[16, 8, 32, 24]])
    np.testing.assert_allclose(high.result.boxes, [[4, 16, 8, 48]])
    np.testing.assert_allclose(small.result.boxes, [[2, 2, 4, 6]])
    for number, found in enumerate((wide, high, small), start=1):
        assert isinstance(found, Prediction)
        assert isinstance(found.result, DetectedObjects)
        assert found.result.labels.tolist() == [1]
        np.testing.assert_allclose(found.result.scores, [50 * number / 255], rtol=1e-6)
        assert (found.image == 50 * number).all()
        assert found.result.masks is None
        assert found.result.keypoints is None
        dtypes = [x.dtype for x in found.result[:3]]
        assert dtypes == [np.float64, np.int64, np.float64]


def test_boxes_of_a_letterboxed_image_are_clipped_to_it(files):
    task = detector(inputs=Inputs((16, 16), resize="letterbox"))
    (high,) = predict(task, {}, files[2:3])
    # 64 x 16 is in columns 6 to 9, four times smaller: of columns 8 to 16, 8 to 10 are in it.
    np.testing.assert_allclose(high.result.boxes, [[8, 16, 16, 48]])


def test_boxes_of_a_cropped_image_are_moved_back():
    task = detector(inputs=Inputs((16, 16), resize="crop"))
    (wide,) = predict(task, {}, [noise(32, 64, 3)])
    # 32 x 64 becomes 16 x 32, of which columns 8 to 24 are the input.
    np.testing.assert_allclose(wide.result.boxes, [[32, 8, 48, 24]])


@pytest.mark.parametrize("box", [(7, 3, 7, 9), (40, 0, 50, 5)])
def test_a_box_without_an_area_in_the_image_is_nothing(box):
    decode = finds((box, (1, 2, 3, 4)), masks=np.ones((2, 4, 4), np.float32))
    (found,) = predict(detector(decode, inputs=Inputs((16, 32))), {}, [noise(16, 32, 3)])
    assert len(found.result.boxes) == len(found.result.masks) == 0


def test_nothing_found():
    def decode(outputs, example):
        found = finds(masks=np.ones((2, 4, 4), np.float32), keypoints=np.ones((2, 5, 3)))
        found = found(outputs, example)
        return found.replace(valid=jnp.zeros(2, bool))

    (found,) = predict(detector(decode), {}, [noise(8, 9, 3)])
    assert len(found.result.masks) == 0
    shapes = [x.shape for x in found.result._replace(masks=None) if x is not None]
    assert shapes == [(0, 4), (0,), (0,), (0, 5, 3)]


def test_masks_are_pasted_into_the_image():
    masks = np.random.default_rng(1).random((2, 5, 5)).astype(np.float32)
    task = detector(finds(masks=masks))
    for size, box in (((32, 64), [16, 8, 32, 24]), ((8, 8), [2, 2, 4, 6])):
        (found,) = predict(task, {}, [noise(*size, 3)])
        assert found.result.masks.sizes.tolist() == [list(size)]
        expected = pasted(masks[0], box, size) > 0.5
        np.testing.assert_array_equal(decode_mask(found.result.masks[0]), expected)
        assert 0 < expected.sum() < expected.size / 2


def test_a_mask_covers_its_box_also_where_that_leaves_the_image():
    """The input shows columns 16 to 48 of the image; the box goes on beyond them and it."""
    task = detector(
        finds(((-20, 2, 6, 14), (0, 0, 1, 1)), masks=np.ones((2, 5, 5), np.float32)),
        inputs=Inputs((16, 16), resize="crop"),
    )
    (found,) = predict(task, {}, [noise(32, 64, 3)])
    np.testing.assert_allclose(found.result.boxes, [[0, 4, 28, 28]])
    expected = pasted(np.ones((5, 5)), (-24, 4, 28, 28), (32, 64)) > 0.5
    np.testing.assert_array_equal(decode_mask(found.result.masks[0]), expected)
    assert expected[10, :28].all()


def test_keypoints_are_in_pixels_of_the_image():
    keypoints = np.tile(np.float32([[[8, 4, 0.5], [32, 16, 0.25], [0, 0, 0]]]), (2, 1, 1))
    (found,) = predict(detector(finds(keypoints=keypoints)), {}, [noise(32, 96, 3)])
    expected = [[[24, 8, 0.5], [96, 32, 0.25], [0, 0, 0]]]
    np.testing.assert_allclose(found.result.keypoints, expected)


# Landmarks.


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (Inputs((16, 32), resize="stretch"), [[24, 10], [0, -4]]),
        # 32 x 96 becomes 7 x 20, below 6 rows.
        (
            Inputs((20, 20), resize="letterbox"),
            [[8 * 4.8, (5 - 6) * 32 / 7], [0, (-2 - 6) * 32 / 7]],
        ),
    ],
)
def test_landmarks_are_in_pixels_of_the_image(inputs, expected):
    task = task_of(
        "landmarks",
        lambda variables, images: images.mean(axis=(1, 2, 3)),
        lambda outputs, example: {
            "points": jnp.array([[8, 5], [0, -2]], jnp.float32),
            "scores": jnp.array([0.5, 0.25]),
        },
        inputs=inputs,
    )
    (found,) = predict(task, {}, [noise(32, 96, 3)])
    np.testing.assert_allclose(found.result["points"], expected, rtol=1e-6)
    np.testing.assert_allclose(found.result["scores"], [0.5, 0.25])


# Segmentation.


def labels_of_brightness(images):
    """A pixel has the class of its brightness in 0..255, of four."""
    return (images[..., 0] // 64).astype(jnp.int32)


def segmenter(forward=None, **fields):
    return task_of(
        "segmentation",
        forward or (lambda variables, images: {"labels": labels_of_brightness(images)}),
        lambda outputs, example: outputs["labels"],
        **fields,
    )


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
@pytest.mark.parametrize(
    "size", slow_but([((16, 32),), ((40, 30),), ((5, 70),), ((1, 1),)], [((40, 30),)])
)
def test_labels_are_those_of_the_nearest_pixels_of_the_input(resize, size):
    inputs = Inputs((16, 32), resize=resize)
    image = noise(*size, 3)
    (found,) = predict(segmenter(inputs=inputs), {}, [image])
    fitted, placement = fit_image(image, inputs)
    labels = np.asarray(labels_of_brightness(fitted))
    assert found.result.shape == size
    for y, x in itertools.product(*map(range, size)):
        row = int((y + 0.5) * placement.scale_y + placement.offset_y)
        column = int((x + 0.5) * placement.scale_x + placement.offset_x)
        assert found.result[y, x] == labels[row, column]


def test_pixels_outside_of_a_crop_have_no_label():
    task = segmenter(inputs=Inputs((16, 16), resize="crop"))
    (found,) = predict(task, {}, [np.full((32, 64, 3), 200, np.uint8)])
    assert (found.result[:, 16:48] == 3).all()
    assert (found.result[:, :16] == IGNORED).all()
    assert (found.result[:, 48:] == IGNORED).all()


def test_a_border_that_the_network_takes_off_has_no_label():
    task = segmenter(lambda _, images: {"labels": labels_of_brightness(images[:, 4:-4, 4:-4])})
    image = np.zeros((16, 32, 3), np.uint8)
    image[:8] = 255
    (found,) = predict(task, {}, [image])
    inner = found.result[4:-4, 4:-4]
    assert (inner[:4] == 3).all()
    assert (inner[4:] == 0).all()
    assert (found.result == IGNORED).sum() == 16 * 32 - 8 * 24


def blurred(variables, images):
    """The class of the mean of 3 x 3 pixels, and a map that shows a stride of 2."""
    count, height, width, _ = images.shape
    padded = jnp.pad(images[..., :1], [(0, 0), (1, 1), (1, 1), (0, 0)], mode="reflect")
    parts = [padded[:, y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return {"labels": labels_of_brightness(sum(parts) / 9), "c1": jnp.zeros((count, 1))}


@pytest.mark.parametrize("batch_size", slow_but([1, 3, 8], [3]))
def test_images_of_any_size_are_labelled_by_tiles(batch_size):
    """With a margin of an eighth of the tile's side all pixels see their surroundings."""
    task = segmenter(blurred, inputs=Inputs((16, 32)))
    images = [noise(*size, 3, seed=size[0]) for size in ((41, 70), (16, 32), (3, 5), (70, 20))]
    found = list(predict(task, {}, images, batch_size=batch_size))
    run = jax.jit(blurred)
    for x, image in zip(found, images, strict=True):
        expected = run({}, image[None].astype(np.float32))["labels"][0]
        np.testing.assert_array_equal(x.result, expected)


def test_an_image_of_the_networks_size_is_labelled_at_once():
    """Without a margin: the network's own border is in the result."""

    def forward(variables, images):
        frame = jnp.ones(images.shape[:3], jnp.int32).at[:, 1:-1, 1:-1].set(0)
        return {"labels": frame}

    task = segmenter(forward, inputs=Inputs((16, 32)))
    same, other = predict(task, {}, [noise(16, 32, 3), noise(17, 33, 3)])
    assert same.result[0].all()
    assert not other.result.any()


def test_a_network_that_takes_its_border_off_always_gets_tiles():
    model = create_model("unet_valid", widths=(2, 3), num_classes=3, dropout=0.0, norm=None)
    variables = random_variables(model, np.zeros((1, 32, 48, 3), np.float32))
    task = task_of(
        "segmentation",
        lambda variables, images: model.apply(variables, images / 255, train=False),
        lambda outputs, example: decode(outputs),
        inputs=Inputs((32, 48)),
    )

    def decode(outputs):
        logits = outputs["logits"]
        return jnp.argmax(logits - logits.mean(axis=(-3, -2), keepdims=True), axis=-1)

    @jax.jit
    def labels(images):
        return decode(model.apply(variables, images.astype(jnp.float32) / 255, train=False))

    images = [noise(32, 48, 3), noise(50, 20, 3)]
    lost = (32 - jax.eval_shape(labels, jnp.asarray(images[0][None])).shape[1]) // 2
    assert lost > 4
    for found, image in zip(predict(task, variables, images), images, strict=True):
        how = {"tile": (32, 48), "margin": lost, "step": 2}
        expected = predict_in_tiles(labels, image, **how)
        assert found.result.shape == image.shape[:2]
        np.testing.assert_array_equal(found.result, expected)
        assert len(np.unique(found.result)) > 1


def test_labels_of_original_by_hand():
    labels = np.array([[1, 2], [3, 4]])
    whole = labels_of_original(labels, Placement(0.5, 0.5, 0, 0), (4, 4))
    np.testing.assert_array_equal(whole, labels.repeat(2, 0).repeat(2, 1))
    # The labels are the centre of an input of 4 x 4; of an image of 2 x 2 all of it is there.
    how = {"input_size": (4, 4)}
    centre = labels_of_original(labels, Placement(1, 1, 1, 1), (2, 2), **how)
    np.testing.assert_array_equal(centre, labels)
    edge = labels_of_original(labels, Placement(1, 1, 0, 0), (4, 3), **how)
    np.testing.assert_array_equal(
        edge, [[255, 255, 255], [255, 1, 2], [255, 3, 4], [255, 255, 255]]
    )


# Restoration.


@dataclasses.dataclass(frozen=True)
class Restoration(Task):
    """The fields that prediction reads of a restoration task."""

    color: str = "rgb"
    factor: int = 1
    enlarged: bool = False
    tile: int = 16
    margin: int = 3
    border: str = "reflect"


def inverts(variables, images):
    """1 - x, which shows that images are in 0..1 and all of them pass the network."""
    return {"image": variables["one"] - images}


def doubles(variables, images):
    return {"image": variables["one"] * images.repeat(2, axis=1).repeat(2, axis=2)}


def restoration(forward, **fields):
    def prepare(example):
        raise AssertionError("prepare degrades images")

    task = task_of(
        "restoration",
        forward,
        lambda outputs, example: jnp.round(jnp.clip(255 * outputs["image"], 0, 255)),
        make=Restoration,
        inputs=None,
        **fields,
    )
    return dataclasses.replace(task, prepare=prepare)


ONE = {"one": np.float32(1)}


@pytest.mark.parametrize("color", ["rgb", "grey"])
@pytest.mark.parametrize("batch_size", slow_but([1, 4], [4]))
def test_every_channel_is_restored(color, batch_size, files):
    channels = []

    def forward(variables, images):
        channels.append(images.shape[-1])
        return inverts(variables, images)

    task = restoration(forward, color=color)
    images = [noise(41, 23, 3), files[0], files[1], noise(5, 9)]
    first, second, broken, grey = predict(task, ONE, images, batch_size=batch_size)
    np.testing.assert_array_equal(first.result, 255 - images[0])
    np.testing.assert_array_equal(second.result, 255 - read_image(files[0]))
    np.testing.assert_array_equal(grey.result, np.repeat(255 - images[3][..., None], 3, -1))
    assert isinstance(broken, Failed)
    assert set(channels) == {3 if color == "rgb" else 1}


def test_luminance_leaves_the_colours():
    image = noise(20, 30, 3) // 2 + 64
    (found,) = predict(restoration(inverts, color="luminance"), ONE, [image])
    planes = np.array(rgb_to_ycbcr(image))
    planes[..., :1] = np.round(255 - planes[..., :1])
    expected = np.clip(np.round(ycbcr_to_rgb(planes)), 0, 255)
    assert np.abs(found.result - expected).max() <= 1


def test_grey_images_are_restored_as_they_are(tmp_path):
    """In 0..255, not as the luminance of their colours; grey files as grey arrays."""
    image = noise(20, 30)
    Image.fromarray(image).save(tmp_path / "grey.png")
    task = restoration(inverts, color="luminance", border="zeros")
    for found in predict(task, ONE, [image, image[..., None], tmp_path / "grey.png"]):
        np.testing.assert_array_equal(found.result, (255 - image)[..., None].repeat(3, axis=2))


def test_a_network_that_enlarges():
    image = noise(21, 30, 3)
    task = restoration(doubles, factor=2)
    (found,) = predict(task, ONE, [image])
    np.testing.assert_array_equal(found.result, image.repeat(2, 0).repeat(2, 1))
    (light,) = predict(restoration(doubles, factor=2, color="luminance"), ONE, [image])
    assert light.result.shape == (42, 60, 3)


def test_a_network_that_gets_enlarged_images():
    image = noise(21, 30, 3)
    task = restoration(lambda variables, images: {"image": images}, factor=3, enlarged=True)
    (found,) = predict(task, ONE, [image])
    expected = np.clip(np.round(resize_bicubic(image.astype(np.float32), (63, 90))), 0, 255)
    assert np.abs(found.result - expected).max() <= 1
    restorer = restorer_of(task, ONE)
    assert (restorer.factor, restorer.enlarged, restorer.tile) == (3, True, 16)
    np.testing.assert_array_equal(restorer(image), found.result)


# All kinds.


def facts(**fields):
    """What `decode` sees of an example without annotations."""
    return task_of(
        "what you like",
        lambda variables, images: {"mean": images.mean(axis=(1, 2))},
        lambda outputs, example: {
            "mean": outputs["mean"],
            "extent": example.extent,
            "placement": example.placement,
            "size": example.size,
            "mask": example.mask,
        },
        **fields,
    )


def test_another_kind_gets_what_decode_gives_and_decode_sees_where_the_image_lies():
    image = np.full((20, 40, 3), [10, 20, 30], np.uint8)
    (found,) = predict(facts(), {}, [image])
    np.testing.assert_allclose(found.result["mean"], [10, 20, 30], rtol=1e-6)
    assert found.result["extent"].tolist() == [16, 32]
    np.testing.assert_allclose(found.result["placement"], [0.8, 0.8, 0, 0])
    assert found.result["size"].tolist() == [20, 40]
    assert found.result["mask"]
    # 10 x 40 becomes 8 x 32 in rows 4 to 12.
    letterbox = facts(inputs=Inputs((16, 32), resize="letterbox"))
    (found,) = predict(letterbox, {}, [image[:10]])
    assert found.result["extent"].tolist() == [16, 32]
    np.testing.assert_allclose(found.result["placement"], [0.8, 0.8, 0, 4])


def counted(task):
    """The task, and the shapes with which its network is traced."""
    traced = []

    def forward(variables, batch, **how):
        traced.append(batch.image.shape)
        return task.forward(variables, batch, **how)

    return dataclasses.replace(task, forward=forward), traced


def test_a_network_is_compiled_once_also_over_several_calls():
    task, traced = counted(classifier())
    images = [noise(7, 9, 3), noise(20, 20, 3), noise(5, 40, 3)]
    for _ in range(2):
        assert len(list(predict(task, SCALE, iter(images), batch_size=2))) == 3
    assert traced == [(2, 16, 32, 3)]
    list(predict(task, SCALE, images))
    assert traced[1:] == [(3, 16, 32, 3)], "a batch is no larger than the number of images"


def test_tiles_of_all_sizes_are_compiled_once():
    task, traced = counted(segmenter(blurred, inputs=Inputs((16, 32))))
    images = (noise(*size, 3) for size in ((41, 70), (16, 32), (3, 5)))
    assert len(list(predict(task, {}, images, batch_size=2))) == 3
    assert set(traced) == {(2, 16, 32, 3)}
    assert len(traced) == 2, "once for the names of its maps"


def test_the_size_of_batches_changes_nothing():
    rng = np.random.default_rng(0)
    images = [noise(*rng.integers(1, 50, 2), 3, seed=seed) for seed in range(7)]
    results = [list(predict(classifier(), SCALE, images, batch_size=size)) for size in (1, 2, 8)]
    for result in results[1:]:
        for one, other in zip(results[0], result, strict=True):
            np.testing.assert_allclose(
                one.result["probabilities"], other.result["probabilities"], rtol=1e-5
            )


def test_a_few_batches_are_read_ahead_and_no_more():
    read = []

    def images():
        while True:
            read.append(len(read))
            yield noise(4, 4, 3)

    found = predict(classifier(), SCALE, images(), batch_size=2)
    assert read == []
    for number in range(20):
        next(found)
        assert len(read) <= number + 4 * 2
    found.close()
    assert not [x for x in threading.enumerate() if x.name.startswith("in_order")]


def test_files_and_arrays_of_any_channels(files):
    """Sources are files as they were given, or numbers; images are RGB."""
    grey = noise(6, 7)
    given = [str(files[0]), grey, grey[..., None], jnp.asarray(noise(3, 4, 3)), files[2]]
    found = list(predict(classifier(), SCALE, given, batch_size=2))
    assert [x.source for x in found] == [str(files[0]), 1, 2, 3, files[2]]
    np.testing.assert_array_equal(found[0].image, read_image(files[0]))
    for x in found[1:3]:
        np.testing.assert_array_equal(x.image, np.repeat(grey[..., None], 3, -1))
    np.testing.assert_array_equal(found[3].image, noise(3, 4, 3))
    stack = np.stack([noise(4, 4, 3), noise(4, 4, 3, seed=1)])
    assert [x.source for x in predict(classifier(), SCALE, stack)] == [0, 1]


def test_a_grey_network_gets_grey_images():
    task = facts(inputs=Inputs((4, 4), channels=1, resize="stretch"))
    color = np.full((4, 4, 3), [100, 50, 200], np.uint8)
    grey = np.full((4, 4), 77, np.uint8)
    first, second = predict(task, {}, [color, grey])
    expected = Image.fromarray(color).convert("L").getpixel((0, 0))
    assert first.result["mean"].shape == (1,)
    assert abs(first.result["mean"][0] - expected) <= 1
    assert second.result["mean"] == [77]
    np.testing.assert_array_equal(first.image, color)


def test_what_cannot_be_read_is_named(files, tmp_path):
    given = [
        tmp_path / "missing.png",
        noise(4, 4, 3).astype(np.float32),
        noise(4, 4, 2),
        np.zeros((0, 4, 3), np.uint8),
        files[1],
    ]
    found = list(predict(classifier(), SCALE, given, batch_size=2))
    assert all(isinstance(x, Failed) for x in found)
    assert [x.source for x in found] == [given[0], 1, 2, 3, files[1]]
    for x, reason in zip(
        found,
        [
            "missing.png cannot be read as an image",
            "image 1: the image is float32[4, 4, 3]: give uint8 [H, W], [H, W, 1] or [H, W, 3]",
            "image 2: the image is uint8[4, 4, 2]: give",
            "image 3: the image is uint8[0, 4, 3]: give at least one pixel",
            "broken.png cannot be read as an image",
        ],
        strict=True,
    ):
        assert reason in x.reason
        assert "\n" not in x.reason


def test_an_image_of_another_size_is_refused_if_nothing_is_resized(files):
    task = classifier(inputs=Inputs((32, 64)))
    wide, broken, high, array = predict(task, SCALE, [*files[:3], noise(4, 5, 3)])
    assert isinstance(wide, Prediction)
    assert isinstance(broken, Failed)
    assert high.reason == (
        f"{files[2]}: the image has 16 x 64 pixels instead of 64 x 32: make the size (64, 16), or "
        "set resize to one of stretch, letterbox, crop, shorter_side, fit"
    )
    assert array.reason.startswith("image 3: the image has 5 x 4 pixels")


def test_no_images_give_nothing():
    for images in ([], iter([]), np.zeros((0, 4, 4, 3), np.uint8)):
        assert list(predict(classifier(), SCALE, images)) == []


def test_wrong_arguments_are_refused_at_once():
    with pytest.raises(InputError, match=r"^batch_size is 0: give at least 1$"):
        predict(classifier(), SCALE, [], batch_size=0)
    for images in ("a.png", pathlib.Path("a.png"), noise(4, 4, 3), jnp.zeros((4, 4))):
        with pytest.raises(InputError, match=r"^images is one image: give a list of images$"):
            predict(classifier(), SCALE, images)
    with pytest.raises(
        InputError, match=r"^a task of the kind 'classification' has no inputs: set"
    ):
        predict(classifier(inputs=None), SCALE, [])


def test_any_object_with_these_fields_predicts():
    @dataclasses.dataclass
    class Mine:
        task: Task

        def __getattr__(self, name):
            if name not in ("kind", "inputs", "class_names", "prepare", "forward", "decode"):
                raise AssertionError(name)
            return getattr(self.task, name)

    (found,) = predict(Mine(classifier()), SCALE, [noise(4, 4, 3)])
    (expected,) = predict(classifier(), SCALE, [noise(4, 4, 3)])
    np.testing.assert_array_equal(found.result["probabilities"], expected.result["probabilities"])


def test_the_package_can_be_called():
    (found,) = package(classifier(), SCALE, [noise(4, 4, 3)])
    assert isinstance(found, Prediction)
