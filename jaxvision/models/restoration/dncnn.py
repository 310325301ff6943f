"""DnCNN (Zhang, Zuo, Chen, Meng & Zhang 2017, "Beyond a Gaussian denoiser: residual learning of
deep CNN for image denoising", section III.A)."""

from functools import partial
from typing import Any

import chex
import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxvision.layers import Conv, Norm, batch_norm, conv_norm_act, dtypes_of, norm_of, run_block


class DnCNN(nn.Module):
    """The DnCNN network, which predicts the noise with convolutions at full resolution.

    DnCNN-S has 556,097 parameters for grey images. The convolutions are conv1, conv2, ... and
    their norms bn2, bn3, ... All are 3x3 with zero padding, and a ReLU follows each except the
    last. The first and the last have a bias and no norm. The scales of the norms are initialised
    with 0.06, about the size of the random ones of the authors' release, sqrt(2 / (9 64)). With
    1, the first residuals would be much larger than the noise, and training would be slow to
    recover.

    Attributes:
      depth: number of convolutions, at least 2: 17 for a known noise level (DnCNN-S), 20 for an
        unknown one (DnCNN-B).
      width: channels between them.
      norm: after the convolutions between the first and the last; None, as after `fuse_conv_bn`,
        gives them a bias.

    Call:
      images f32[B, H, W, C], noisy -> {"residual": [B, H, W, C], the noise in them,
      "image": [B, H, W, C], images - residual}.
    """

    depth: int = 17
    width: int = 64
    remat: bool = False
    norm: Norm | None = partial(batch_norm, scale_init=nn.initializers.constant(0.06))
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        dtypes = dtypes_of(self)
        norm = norm_of(self, train=train)
        conv = partial(conv_norm_act, features=self.width, kernel_size=3, **dtypes)
        x = images
        for number in range(1, self.depth):
            how = {"name": f"conv{number}", "norm_name": f"bn{number}"}
            x = run_block(self, partial(conv, norm=norm if number > 1 else None, **how), x)
        last = Conv(images.shape[-1], (3, 3), padding=1, name=f"conv{self.depth}", **dtypes)
        residual = last(x)
        return {"residual": residual, "image": images - residual}


DNCNNS = {"dncnn_s": DnCNN, "dncnn_b": partial(DnCNN, depth=20)}
