"""Floor 2: what the families share in linen."""

from jaxvision.layers.conv import conv_norm_act, he_normal
from jaxvision.layers.norm import Norm, batch_norm

__all__ = ["Norm", "batch_norm", "conv_norm_act", "he_normal"]
