"""Chooses the colours of classes, and of text on them."""

import functools

import numpy as np

Color = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

BLACK, WHITE = (0, 0, 0), (255, 255, 255)

_COLORS = 256  # as many classes have different colours

# Oklab: from linear RGB to the three receptors of the eye, and from their cube roots to lightness
# and two axes of hue. Ottosson, "A perceptual color space for image processing", 2020.
_TO_RECEPTORS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def class_color(label: int) -> Color:
    """Returns the colour of a class: always the same one, which looks different from the others.

    The candidates are a grid of strong colours on which text has a contrast of at least 6.5. Each
    class has the candidate that is farthest from the colours of the classes before it; after 256
    classes the colours repeat. The distance is that in Oklab, where a difference in lightness
    counts 0.6 times as much as one in hue, because people name colours by their hue.

    Args:
      label: of the class, at least 0.
    Returns:
      (red, green, blue), 0 to 255.
    Source: Ottosson, "A perceptual color space for image processing", 2020.
    """
    return _palette()[label % _COLORS]


def text_color(ground: Color) -> Color:
    """Returns black or white: the one with more contrast to the background, at least 4.58.

    The contrast of luminances a > b is (a + 0.05) / (b + 0.05). The contrasts of a background to
    white and to black multiply to 21, so that the larger one is at least the root of 21.

    Args:
      ground: the background's (red, green, blue), 0 to 255.
    Returns:
      (0, 0, 0) or (255, 255, 255).
    Source: W3C, Web Content Accessibility Guidelines 2.1, "contrast ratio".
    """
    return BLACK if _contrasts(np.array(ground)).argmax() == 0 else WHITE


def _linear(color: np.ndarray) -> np.ndarray:
    """Converts 0 to 255 of sRGB to linear intensities in 0 to 1 (IEC 61966-2-1)."""
    share = color / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def _contrasts(ground: np.ndarray) -> np.ndarray:
    """Computes the contrasts to black and white, [..., 2]; see `text_color`."""
    luminance = _linear(ground) @ [0.2126, 0.7152, 0.0722]
    return np.stack([(luminance + 0.05) / 0.05, 1.05 / (luminance + 0.05)], axis=-1)


@functools.cache
def _palette() -> list[Color]:
    """Computes the colours of the first 256 classes; see `class_color`."""
    levels = range(0, 256, 15)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = np.cbrt(_linear(grid) @ _TO_RECEPTORS.T) @ _TO_OKLAB.T
    # Only colours that are not greyish, and not nearly black or white.
    strong = (np.hypot(lab[:, 1], lab[:, 2]) > 0.12) & (np.abs(lab[:, 0] - 0.7) < 0.2)
    strong &= _contrasts(grid).max(axis=1) >= 6.5
    grid, lab = grid[strong], lab[strong] * [0.6, 1, 1]
    chosen = [int((lab[:, 1] + lab[:, 2]).argmax())]  # the first colour is the one nearest to red
    distance = np.full(len(lab), np.inf)
    for _ in range(_COLORS - 1):
        distance = np.minimum(distance, np.square(lab - lab[chosen[-1]]).sum(axis=1))
        chosen.append(int(distance.argmax()))
    return [tuple(color) for color in grid[chosen].tolist()]
