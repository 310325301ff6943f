"""Cutout: against a loop, which positions there are, padding, dtypes."""

import jax
import numpy as np
import pytest

from jaxvision import augment
from jaxvision.core import ImageBatch, InputError

HEIGHT, WIDTH = 5, 7


def example_of(dtype, extent=None):
    image = np.arange(1, HEIGHT * WIDTH * 3 + 1).reshape(HEIGHT, WIDTH, 3).astype(dtype)
    extent = None if extent is None else np.array(extent, np.int32)
    return ImageBatch(image=image, mask=np.True_, extent=extent)


def every_result(image, size, fill, extent):
    """Loops over the centres of the square: each possible result, once."""
    results = set()
    for y in range(extent[0]):
        for x in range(extent[1]):
            out = image.copy()
            for row in range(max(y - size // 2, 0), min(y - size // 2 + size, extent[0])):
                for column in range(max(x - size // 2, 0), min(x - size // 2 + size, extent[1])):
                    out[row, column] = fill
            results.add(out.tobytes())
    return results


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("extent", [None, (3, 4)])
@pytest.mark.parametrize(("size", "fill"), [(1, 127), (2, (9, 0, 250)), (3, 127), (20, 0)])
def test_the_square_is_everywhere_it_can_be_and_nowhere_else(dtype, extent, size, fill):
    example = example_of(dtype, extent)
    cutout = augment.Cutout(size, fill=fill)
    keys = jax.random.split(jax.random.key(1), 400)
    images = jax.jit(jax.vmap(lambda key: cutout(key, example).image))(keys)
    assert images.dtype == dtype
    found = {np.asarray(image).tobytes() for image in images}
    assert found == every_result(example.image, size, fill, extent or (HEIGHT, WIDTH))


def test_a_fill_for_another_number_of_channels_is_refused():
    with pytest.raises(InputError, match="fill has 2 numbers and the image 3 channels"):
        augment.Cutout(2, fill=(1, 2))(jax.random.key(0), example_of(np.uint8))
