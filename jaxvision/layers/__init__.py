"""Floor 2: what the families share in linen."""

from jaxvision.layers.conv import Conv, ConvTranspose, conv_norm_act, he_normal
from jaxvision.layers.norm import NORMS, Norm, batch_norm, group_norm

__all__ = [
    "NORMS",
    "Conv",
    "ConvTranspose",
    "Norm",
    "batch_norm",
    "conv_norm_act",
    "group_norm",
    "he_normal",
]
