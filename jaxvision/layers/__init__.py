"""Floor 2: what the families share in linen."""

from jaxvision.layers.conv import Conv, conv_norm_act, he_normal
from jaxvision.layers.norm import NORMS, Norm, batch_norm

__all__ = ["NORMS", "Conv", "Norm", "batch_norm", "conv_norm_act", "he_normal"]
