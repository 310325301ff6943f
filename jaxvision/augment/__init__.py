"""Floor 2: augmentation on the device."""

from jaxvision.augment.adjust import (
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
    cutmix_classification,
    mixup_classification,
    mixup_or_cutmix_classification,
)
from jaxvision.augment.color import (
    hsv_to_rgb,
    random_hsv,
    rgb_to_grey,
    rgb_to_hsv,
    rgb_to_ycbcr,
    ycbcr_to_rgb,
)
from jaxvision.augment.degradation import (
    downscale,
    downscale_upscale,
    gaussian_noise,
    random_gaussian_noise,
)
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
    random_resized_crop,
    random_rotation,
    random_symmetry,
    rotate,
)
from jaxvision.augment.landmarks import (
    random_flip_landmarks,
    random_scale_and_translate_landmarks,
)
from jaxvision.augment.rand_augment import rand_augment
from jaxvision.augment.sampling import (
    random_resized_crop_window,
    resized_crop,
    resized_crop_boxes,
    scale_and_translate_window,
    warp,
)
from jaxvision.augment.segmentation import (
    elastic_deformation,
    random_flip_labelled,
    random_scale_and_translate_labelled,
)

__all__ = [
    "adjust_brightness",
    "adjust_contrast",
    "adjust_hue",
    "adjust_saturation",
    "adjust_sharpness",
    "autocontrast",
    "blend",
    "clip_and_drop",
    "color_jitter",
    "cutmix_classification",
    "downscale",
    "downscale_upscale",
    "elastic_deformation",
    "equalize",
    "flip_boxes",
    "gaussian_noise",
    "horizontal_flip",
    "hsv_to_rgb",
    "mixup",
    "mixup_classification",
    "mixup_or_cutmix_classification",
    "mosaic",
    "normalize",
    "pad_and_crop",
    "posterize",
    "rand_augment",
    "random_flip_labelled",
    "random_flip_landmarks",
    "random_gaussian_noise",
    "random_horizontal_flip",
    "random_hsv",
    "random_jitter_crop",
    "random_resized_crop",
    "random_resized_crop_window",
    "random_rotation",
    "random_scale_and_translate",
    "random_scale_and_translate_labelled",
    "random_scale_and_translate_landmarks",
    "random_symmetry",
    "resized_crop",
    "resized_crop_boxes",
    "rgb_to_grey",
    "rgb_to_hsv",
    "rgb_to_ycbcr",
    "rotate",
    "scale_and_translate_window",
    "solarize",
    "warp",
    "with_probability",
    "ycbcr_to_rgb",
]
