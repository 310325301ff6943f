"""The two programs that descriptions are written for: Darknet, and AlexeyAB's fork of it.

They read the same files, and differ in a few things that no option says: what is added to the
variance of a norm, and how images are resized.
"""

from collections.abc import Sequence

from jaxvision.core import check_choice
from jaxvision.interop.darknet.sections import Section

PJREDDIE, ALEXEYAB = "pjreddie", "alexeyab"
DIALECTS = (PJREDDIE, ALEXEYAB)

# Layers, activations and options that only the fork has. A "" stands for all sections.
_LAYERS = {
    "Gaussian_yolo",
    "contrastive",
    "local_avg",
    "local_avgpool",
    "reorg3d",
    "sam",
    "scale_channels",
}
_ACTIVATIONS = {"gelu", "hard_mish", "mish", "relu6", "swish"}
_OPTIONS = {
    "": {"antialiasing", "stride_x", "stride_y"},
    "convolutional": {"dilation", "share_index"},
    "dropout": {"dropblock"},
    "net": {
        "adversarial_lr",
        "blur",
        "cutmix",
        "ema_alpha",
        "label_smooth_eps",
        "letter_box",
        "mixup",
        "mosaic",
        "mosaic_bound",
    },
    "route": {"group_id", "groups"},
    "shortcut": {"weights_normalization", "weights_type"},
    "yolo": {
        "beta_nms",
        "cls_normalizer",
        "counters_per_class",
        "delta_normalizer",
        "iou_loss",
        "iou_normalizer",
        "iou_thresh",
        "iou_thresh_kind",
        "label_smooth_eps",
        "max_delta",
        "new_coords",
        "nms_kind",
        "obj_normalizer",
        "objectness_smooth",
        "resize",
        "scale_x_y",
    },
}


def dialect_of(sections: Sequence[Section], given: str | None = None) -> str:
    """The program that a description is for.

    Args:
      sections: of the description.
      given: "pjreddie", "alexeyab", or None: "alexeyab" if a section has something that only the
        fork reads, otherwise "pjreddie".
    Raises:
      OptionError: `given` is neither.
    """
    if given is not None:
        check_choice("dialect", given, DIALECTS)
        return given
    return ALEXEYAB if any(map(_of_fork, sections)) else PJREDDIE


def _of_fork(section: Section) -> bool:
    """Whether a section has something that only the fork reads."""
    own = _OPTIONS[""] | _OPTIONS.get(section.kind, set())
    return section.kind in _LAYERS or any(
        option.name in own or (option.name == "activation" and option.value in _ACTIVATIONS)
        for option in section.options
    )
