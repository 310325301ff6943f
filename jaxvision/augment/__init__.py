"""Floor 2: augmentation on the device."""

from jaxvision.augment.image import (
    horizontal_flip,
    normalize,
    pad_and_crop,
    random_rotation,
    rotate,
)

__all__ = ["horizontal_flip", "normalize", "pad_and_crop", "random_rotation", "rotate"]
