"""Batches of images, and what a network gives for them."""

import jax
import numpy as np
import pytest

from jaxvision.core import ImageBatch, Inputs
from jaxvision.data.transforms.placing import fit_image
from jaxvision.tasks.inference import FittedImage, image_batch, outputs_of, predictions_of
from tests.predict.tiny_tasks import task_of


def tiny():
    return task_of(
        "any",
        lambda variables, images: {"sum": variables["scale"] * images.sum(axis=(1, 2, 3))},
        lambda outputs, example: (outputs["sum"], example.image.mean(), example.mask),
    )


def test_outputs_and_predictions():
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), np.uint8)
    batch = ImageBatch(image=images, mask=np.array([True, True, False]))
    variables = {"scale": np.float32(2)}
    for run in (lambda fn: fn, jax.jit):
        outputs = run(lambda v, b: outputs_of(tiny(), v, b))(variables, batch)
        np.testing.assert_allclose(outputs["sum"], 2.0 * images.sum(axis=(1, 2, 3)), rtol=1e-6)
        total, mean, mask = run(lambda v, b: predictions_of(tiny(), v, b))(variables, batch)
        np.testing.assert_array_equal(total, outputs["sum"])
        np.testing.assert_allclose(mean, images.mean(axis=(1, 2, 3)), rtol=1e-5)
        assert mask.tolist() == [True, True, False]
    with pytest.raises(AssertionError, match=r"^batch.image is uint8\[4, 5, 3\]: give number\[B, "):
        outputs_of(tiny(), variables, batch.replace(image=images[0]))


def test_a_batch_is_filled_up():
    inputs = Inputs((16, 32), resize="letterbox")
    images = [np.full(size, 200, np.uint8) for size in ((10, 40, 3), (32, 8, 3))]
    fitted = [FittedImage(*fit_image(image, inputs), image.shape[:2]) for image in images]
    batch = image_batch(fitted, 4)
    assert batch.image.shape == (4, 16, 32, 3)
    assert batch.image.dtype == np.uint8
    for row, (image, placement, *_) in enumerate(fitted):
        np.testing.assert_array_equal(batch.image[row], image)
        np.testing.assert_allclose(batch.placement[row], placement)
    assert batch.mask.tolist() == [True, True, False, False]
    assert not batch.image[2:].any()
    assert batch.extent.tolist() == [[16, 32]] * 4
    assert batch.size.tolist() == [[10, 40], [32, 8], [16, 32], [16, 32]]
    assert [x.dtype for x in (batch.extent, batch.placement, batch.size)] == ["i4", "f4", "i4"]
