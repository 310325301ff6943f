"""Floor 2: augmentation on the device."""

from jaxvision.augment.color import hsv_to_rgb, random_hsv, rgb_to_hsv
from jaxvision.augment.detection import (
    blend,
    clip_and_drop,
    flip_boxes,
    mixup,
    mosaic,
    random_horizontal_flip,
    random_jitter_crop,
    random_scale_and_translate,
    with_probability,
)
from jaxvision.augment.image import (
    horizontal_flip,
    normalize,
    pad_and_crop,
    random_rotation,
    rotate,
)
from jaxvision.augment.sampling import resized_crop, resized_crop_boxes

__all__ = [
    "blend",
    "clip_and_drop",
    "flip_boxes",
    "horizontal_flip",
    "hsv_to_rgb",
    "mixup",
    "mosaic",
    "normalize",
    "pad_and_crop",
    "random_horizontal_flip",
    "random_hsv",
    "random_jitter_crop",
    "random_rotation",
    "random_scale_and_translate",
    "resized_crop",
    "resized_crop_boxes",
    "rgb_to_hsv",
    "rotate",
    "with_probability",
]
