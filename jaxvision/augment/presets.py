"""The augmentations of known recipes."""

from collections.abc import Sequence
from typing import Any

from jaxvision.augment.adjust import RandomPhotometricDistort
from jaxvision.augment.crops import MEAN_COLOR, RandomIoUCrop, RandomZoomOut, ScaleJitter
from jaxvision.augment.geometric import RandomFlip
from jaxvision.core import lookup


def detection_preset(
    name: str, *, fill: float | tuple[float, ...] = MEAN_COLOR, swap: Sequence[int] = ()
) -> tuple[Any, ...]:
    """Returns the augmentations of a recipe of torchvision for detectors.

    - "hflip": a horizontal flip with probability 1/2, which is also part of all others.
    - "ssd": photometric distortion, zoom-out and IoU crop.
    - "ssdlite": IoU crop.
    - "lsj": large-scale jitter.
    - "multiscale": the flip only; the sizes are drawn by the loader, see `data.MultiScale`.

    Args:
      name: name of the recipe.
      fill: value of the pixels outside the image, in 0..255, or one for each channel.
      swap: of the flip, for objects with keypoints; see `RandomFlip`.
    Returns:
      augmentations, to be applied one after the other.
    Raises:
      InputError: name is unknown.
      OptionError: swap does not exchange keypoints in pairs.
    """
    flip, zoom_out = RandomFlip(swap=tuple(swap)), RandomZoomOut(fill=fill)
    presets = {
        "hflip": (flip,),
        "ssd": (RandomPhotometricDistort(), RandomIoUCrop(zoom_out=zoom_out), flip),
        "ssdlite": (RandomIoUCrop(), flip),
        "lsj": (ScaleJitter(fill=fill), flip),
        "multiscale": (flip,),
    }
    return lookup(presets, name, "preset")
