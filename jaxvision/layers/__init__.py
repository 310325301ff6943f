"""Floor 2: what the families share in linen."""

from jaxvision.layers.conv import PADDINGS, Conv, ConvTranspose, conv_norm_act, he_normal
from jaxvision.layers.fields import as_backbone, dtypes_of, norm_of
from jaxvision.layers.norm import NORMS, Norm, batch_norm, group_norm

__all__ = [
    "NORMS",
    "PADDINGS",
    "Conv",
    "ConvTranspose",
    "Norm",
    "as_backbone",
    "batch_norm",
    "conv_norm_act",
    "dtypes_of",
    "group_norm",
    "he_normal",
    "norm_of",
]
