"""Region proposals by selective search, with OpenCV."""

from typing import Any

import numpy as np

from jaxvision.core import InputError, check_choice, check_range

MODES = ("fast", "quality")
"""Values of the argument `mode` of `selective_search`."""


def selective_search(
    image: np.ndarray, *, mode: str = "fast", max_proposals: int = 2000, scale: int = 150
) -> np.ndarray:
    """Proposes regions of an image that may be objects, by grouping segments bottom-up.

    The image is divided into segments, and the two most similar neighbors are united again and
    again. The boxes of all segments that arise are proposals, each once. This is repeated for
    several color spaces, sizes of the first segments and kinds of similarity.

    As in the paper, the proposals are ordered by i times a random number in [0, 1): i counts the
    regions of one hierarchy, from the whole image to the first segments. Here i is the rank by
    falling area among all proposals. The random numbers are always the same, so that an image has
    always the same proposals.

    Args:
      image: u8[H, W, 3], RGB.
      mode: "fast" or "quality"; the latter has more color spaces and kinds of similarity, and takes
        longer.
      max_proposals: most proposals, the first ones in the order.
      scale: k of the first segmentation, and the step to the larger ones that follow: a smaller
        one gives more and smaller segments. The paper has 50 for images of about 500 pixels, and
        OpenCV 150.
    Returns:
      f32[P, 4], xyxy, pixels; a pixel's left edge is x, its right edge x + 1.
    Raises:
      InputError: OpenCV is not installed, or an argument is out of range.
    Source: Uijlings, van de Sande, Gevers & Smeulders 2013 ("Selective search for object
      recognition"), sections 3 and 4.2.
    """
    check_choice("mode", mode, MODES)
    check_range("max_proposals", max_proposals, least=1)
    check_range("scale", scale, least=1)
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.shape[2:] != (3,) or not image.size:
        raise InputError(f"image is {image.dtype}{list(image.shape)}: give uint8 [H, W, 3]")
    search = _segmentation().createSelectiveSearchSegmentation()
    search.setBaseImage(np.ascontiguousarray(image[:, :, ::-1]))
    switch = {
        "fast": search.switchToSelectiveSearchFast,
        "quality": search.switchToSelectiveSearchQuality,
    }[mode]
    switch(base_k=scale, inc_k=scale)
    found = np.array(search.process(), np.float32).reshape(-1, 4)
    found[:, 2:] += found[:, :2]
    return found[_order(found)[:max_proposals]]


def _order(boxes: np.ndarray) -> np.ndarray:
    """The order of proposals, i64[P]; see `selective_search`."""
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    # OpenCV returns the same boxes in an order that differs from call to call.
    rank = np.lexsort((*boxes.T, -area))
    # RandomState's stream is frozen by numpy's compatibility policy.
    draws = np.random.RandomState(0).random_sample(len(boxes)) * np.arange(1, len(boxes) + 1)
    return rank[np.argsort(draws, kind="stable")]


def _segmentation() -> Any:
    """Imports `cv2.ximgproc.segmentation`.

    Raises:
      InputError: it is not installed.
    """
    try:
        from cv2.ximgproc import segmentation
    except ImportError as error:
        raise InputError(
            "selective search needs opencv-contrib-python-headless: pip install "
            "'jaxvision[proposals]'; other packages of OpenCV must be uninstalled before, as they "
            "have the same module cv2"
        ) from error
    return segmentation
