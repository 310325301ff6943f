"""Building blocks of networks in Flax linen, which the families of models share (layer 2).

The functions create layers as children of the module that calls them, under names that the caller
gives. These arguments and fields mean the same everywhere:

  axis_name: mapped axis over whose devices batch norm averages its statistics; None: no axis.
  dtype: dtype of the computation; None: that of the input and the parameters.
  param_dtype: dtype of the parameters.
  kernel_init, bias_init: initialisation of kernels and biases.
"""

from jaxvision.layers.activations import add_act, relu
from jaxvision.layers.attention import (
    attention,
    feed_forward,
    from_windows,
    gelu,
    relative_position_index,
    self_attention,
    to_windows,
)
from jaxvision.layers.blocks import drop_path, make_divisible, run_block, squeeze_excite
from jaxvision.layers.conv import (
    PADDINGS,
    Conv,
    ConvTranspose,
    conv_in_sequence,
    conv_norm_act,
    he_normal,
)
from jaxvision.layers.drop_block import DropBlock
from jaxvision.layers.fields import as_backbone, dtypes_of, norm_of
from jaxvision.layers.fpn import FPN
from jaxvision.layers.norm import (
    NORMS,
    BatchNorm,
    FrozenBatchNorm,
    Norm,
    batch_norm,
    frozen_batch_norm,
    frozen_statistics,
    group_norm,
    instance_norm,
    layer_norm,
)

__all__ = [
    "FPN",
    "NORMS",
    "PADDINGS",
    "BatchNorm",
    "Conv",
    "ConvTranspose",
    "DropBlock",
    "FrozenBatchNorm",
    "Norm",
    "add_act",
    "as_backbone",
    "attention",
    "batch_norm",
    "conv_in_sequence",
    "conv_norm_act",
    "drop_path",
    "dtypes_of",
    "feed_forward",
    "from_windows",
    "frozen_batch_norm",
    "frozen_statistics",
    "gelu",
    "group_norm",
    "he_normal",
    "instance_norm",
    "layer_norm",
    "make_divisible",
    "norm_of",
    "relative_position_index",
    "relu",
    "run_block",
    "self_attention",
    "squeeze_excite",
    "to_windows",
]
