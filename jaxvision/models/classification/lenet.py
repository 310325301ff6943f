"""LeNet-5 (LeCun, Bottou, Bengio & Haffner 1998, "Gradient-based learning applied to document
recognition", section II.B)."""

from collections.abc import Callable
from typing import Any

import chex
import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxvision.core import InputError
from jaxvision.layers import Norm, dtypes_of, norm_of


class LeNet5(nn.Module):
    """LeNet-5 in its modern, dense form: 61,706 parameters with 10 classes.

    Layers and their names as in the paper's figure 2. Three things differ from 1998, as in most
    later tellings: C3 sees all maps of S2, the averaging of S2 and S4 has no trainable
    coefficients, and the output layer is linear instead of RBF.

    Attributes:
      num_classes: of the output layer; None builds none.
      activation: after C1, C3, C5 and F6.
      norm: applied after C1 and C3, or None as in the paper.
      axis_name: mapped axis over which a batch norm synchronises, or None.
      dtype: of the computation; None follows the input.
      param_dtype: of the parameters.

    Call:
      images f32[B, 32, 32, C] -> {"c1": [B, 28, 28, 6], "c3": [B, 10, 10, 16],
      "pooled": [B, 84], "logits": [B, num_classes]}.

    Raises:
      InputError: the images are not 32x32.
    """

    num_classes: int | None = 10
    activation: Callable[[Array], Array] = nn.tanh
    norm: Norm | None = None
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        if images.shape[1:3] != (32, 32):
            raise InputError(
                f"lenet5 takes 32x32 images, got {images.shape[1]}x{images.shape[2]}: "
                "resize them (config.data.image_size=32)"
            )
        dtypes, norm = dtypes_of(self), norm_of(self, train=train)

        def conv(x: Array, features: int, name: str) -> Array:
            return nn.Conv(features, (5, 5), padding="VALID", name=name, **dtypes)(x)

        def norm_act(x: Array, name: str) -> Array:
            return self.activation(x if norm is None else norm(x, name=name))

        c1 = norm_act(conv(images, 6, "c1"), "bn1")
        s2 = nn.avg_pool(c1, (2, 2), strides=(2, 2))
        c3 = norm_act(conv(s2, 16, "c3"), "bn3")
        s4 = nn.avg_pool(c3, (2, 2), strides=(2, 2))
        c5 = self.activation(conv(s4, 120, "c5"))
        f6 = self.activation(nn.Dense(84, name="f6", **dtypes)(c5.reshape(len(c5), 120)))
        maps = {"c1": c1, "c3": c3, "pooled": f6}
        if self.num_classes is not None:
            maps["logits"] = nn.Dense(self.num_classes, name="output", **dtypes)(f6)
        return maps


LENETS = {"lenet5": LeNet5}
