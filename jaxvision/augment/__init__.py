"""Augmentation on the device: functions (key, example) -> example for every batch struct.

Functions and augmentations raise AssertionError if an array, or a field of the example, has another
shape or dtype. "Raises:" in a docstring lists what else is raised. These options mean the same
everywhere:

  fill: value of the pixels outside the image, in 0..255.
  least_visible, least_side: options of `clip_and_drop`, which drops boxes that leave the image.
"""

from jaxvision.augment.adjust import (
    ColorJitter,
    RandomPhotometricDistort,
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    adjust_sharpness,
    autocontrast,
    color_jitter,
    equalize,
    posterize,
    solarize,
)
from jaxvision.augment.classification import (
    ClassMixup,
)
from jaxvision.augment.color import (
    RandomHsv,
    hsv_to_rgb,
    random_hsv,
    rgb_to_grey,
    rgb_to_hsv,
    rgb_to_ycbcr,
    ycbcr_to_rgb,
)
from jaxvision.augment.compose import (
    Augmentation,
    Compose,
    partners_of,
    with_probability,
)
from jaxvision.augment.copy_paste import (
    CopyPaste,
    copy_paste,
)
from jaxvision.augment.crops import (
    MEAN_COLOR,
    RandomIoUCrop,
    RandomZoomOut,
    ScaleJitter,
)
from jaxvision.augment.cutout import (
    Cutout,
)
from jaxvision.augment.degradation import (
    downscale,
    downscale_upscale,
    gaussian_noise,
    random_gaussian_noise,
)
from jaxvision.augment.detection import (
    Mixup,
    Mosaic,
    blend,
    clip_and_drop,
    mixup,
    mosaic,
)
from jaxvision.augment.geometric import (
    Elastic,
    Geometric,
    JitterCrop,
    RandomCrop,
    RandomFlip,
    RandomResizedCrop,
    Rotate,
    ScaleTranslate,
    Symmetry,
)
from jaxvision.augment.image import (
    normalize,
    rotate,
)
from jaxvision.augment.move import (
    Move,
    apply_move,
    change_images,
    flip_move,
    window_move,
)
from jaxvision.augment.presets import (
    detection_preset,
)
from jaxvision.augment.rand_augment import (
    RandAugment,
    rand_augment,
)
from jaxvision.augment.sampling import (
    random_resized_crop_window,
    resized_crop,
    resized_crop_boxes,
    resized_crop_points,
    scale_and_translate_window,
    warp,
)

AUGMENTATIONS = {
    "ClassMixup": ClassMixup,
    "ColorJitter": ColorJitter,
    "Compose": Compose,
    "CopyPaste": CopyPaste,
    "Cutout": Cutout,
    "Elastic": Elastic,
    "JitterCrop": JitterCrop,
    "Mixup": Mixup,
    "Mosaic": Mosaic,
    "RandAugment": RandAugment,
    "RandomCrop": RandomCrop,
    "RandomFlip": RandomFlip,
    "RandomHsv": RandomHsv,
    "RandomIoUCrop": RandomIoUCrop,
    "RandomPhotometricDistort": RandomPhotometricDistort,
    "RandomResizedCrop": RandomResizedCrop,
    "RandomZoomOut": RandomZoomOut,
    "Rotate": Rotate,
    "ScaleJitter": ScaleJitter,
    "ScaleTranslate": ScaleTranslate,
    "Symmetry": Symmetry,
}
"""Classes of augmentations by name."""

__all__ = [
    "AUGMENTATIONS",
    "MEAN_COLOR",
    "Augmentation",
    "ClassMixup",
    "ColorJitter",
    "Compose",
    "CopyPaste",
    "Cutout",
    "Elastic",
    "Geometric",
    "JitterCrop",
    "Mixup",
    "Mosaic",
    "Move",
    "RandAugment",
    "RandomCrop",
    "RandomFlip",
    "RandomHsv",
    "RandomIoUCrop",
    "RandomPhotometricDistort",
    "RandomResizedCrop",
    "RandomZoomOut",
    "Rotate",
    "ScaleJitter",
    "ScaleTranslate",
    "Symmetry",
    "adjust_brightness",
    "adjust_contrast",
    "adjust_hue",
    "adjust_saturation",
    "adjust_sharpness",
    "apply_move",
    "autocontrast",
    "blend",
    "change_images",
    "clip_and_drop",
    "color_jitter",
    "copy_paste",
    "detection_preset",
    "downscale",
    "downscale_upscale",
    "equalize",
    "flip_move",
    "gaussian_noise",
    "hsv_to_rgb",
    "mixup",
    "mosaic",
    "normalize",
    "partners_of",
    "posterize",
    "rand_augment",
    "random_gaussian_noise",
    "random_hsv",
    "random_resized_crop_window",
    "resized_crop",
    "resized_crop_boxes",
    "resized_crop_points",
    "rgb_to_grey",
    "rgb_to_hsv",
    "rgb_to_ycbcr",
    "rotate",
    "scale_and_translate_window",
    "solarize",
    "warp",
    "window_move",
    "with_probability",
    "ycbcr_to_rgb",
]
