"""Placed images are those of torchvision's detectors."""

import jax
import numpy as np
import pytest

from jaxvision.augment import normalize
from jaxvision.core import Inputs
from jaxvision.data import read_image
from jaxvision.data.transforms.placing import fit_image
from tests.ops.parity import import_torchvision

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parity
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-4), ("float64", 1e-12)])
def test_images_are_those_of_torchvision(dtype, tolerance, real_data):
    torch, theirs = import_torchvision("models.detection.transform")
    rng = np.random.default_rng(0)
    sizes = [(97, 100), (61, 200), (333, 41), (80, 80), (17, 5), *rng.integers(20, 300, (6, 2))]
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    images += [read_image(real_data / "darknet" / "images" / f"{x}.jpg") for x in ("dog", "person")]
    for shorter, longer in ((80, 133), (97, 100)):
        transform = theirs.GeneralizedRCNNTransform(shorter, longer, MEAN, STD)
        inputs = Inputs(
            resize="shorter_side",
            shorter_side=shorter,
            longer_side=longer,
            shapes="exact",
            resampling="float32",
            mean=MEAN,
            std=STD,
        )
        for image in images:
            given = torch.tensor(image.transpose(2, 0, 1)).to(getattr(torch, dtype)) / 255
            expected, _ = transform([given])
            size = image.shape[:2]
            assert expected.image_sizes == [inputs.resized(size)]
            found, placement = fit_image(image.astype(dtype), inputs)
            assert found.dtype == dtype
            if dtype == "float32":  # of uint8 it is the same
                np.testing.assert_array_equal(fit_image(image, inputs)[0], found)
            with jax.enable_x64():
                normal = np.asarray(normalize(found, mean=MEAN, std=STD))
            wanted = expected.tensors[0].numpy().transpose(1, 2, 0)
            assert normal.shape == wanted.shape
            np.testing.assert_allclose(normal, wanted, rtol=0, atol=tolerance)
            height, width = inputs.resized(size)
            assert placement == (width / size[1], height / size[0], 0, 0)
