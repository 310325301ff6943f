"""Inception-ResNet v1 and v2 (Szegedy, Ioffe, Vanhoucke & Alemi 2017, "Inception-v4,
Inception-ResNet and the impact of residual connections on learning", figures 7 and 10 to 19).

Version 1 is that of the paper. Version 2 is the network that the authors released, because most
trained weights are for it. It differs from the paper's version 2, whose numbers of channels are not
consistent (table 1 and figure 18 give maps of 1152 and 2144 channels, but figures 17 and 19 have
1154 and 2048):

- the stem is that of Inception v3, not of Inception v4, and a module that figure 15 lacks follows;
- there are 10, 20 and 10 residual modules, on 320, 1088 and 2080 channels, not 5, 10 and 5;
- the last of them is neither scaled nor activated, and a 1x1 convolution follows it.

Branches and reductions are those of the paper. Maps c1 to c5 have 64, 192, 256, 896 and 1792
channels in version 1, and 64, 192, 320, 1088 and 1536 in version 2; their sides are those of
Inception v4.
"""

from functools import partial

from jaxvision.models.backbones.inception_v4 import (
    AVERAGE,
    MAXIMUM,
    InceptionV4,
    Layer,
    Module,
    reduction_a,
)

STEM = (
    (Module("stem1", ((Layer(32, 3, stride=2), Layer(32, 3, padded=False), Layer(64, 3)),)),),
    (Module("stem2", ((MAXIMUM, Layer(80), Layer(192, 3, padded=False)),)),),
)
"""Figure 14, down to a grid of 71x71; the same as in Inception v3."""
SCALES = (0.17, 0.1, 0.2)
"""Scales of the residual modules A, B and C, as released; the paper has "between 0.1 and 0.3"."""


def residual_a(repeats: int, *, second: int, third: int) -> Module:
    """Returns figures 10 and 16, with these channels of the last branch's 3x3 convolutions."""
    branches = (
        (Layer(32),),
        (Layer(32), Layer(32, 3)),
        (Layer(32), Layer(second, 3), Layer(third, 3)),
    )
    return Module("inception_resnet_a", branches, repeats, SCALES[0])


def residual_b(repeats: int, *, direct: int, second: int, third: int) -> Module:
    """Returns figures 11 and 17."""
    branches = ((Layer(direct),), (Layer(128), Layer(second, (1, 7)), Layer(third, (7, 1))))
    return Module("inception_resnet_b", branches, repeats, SCALES[1])


def residual_c(repeats: int, *, second: int, third: int) -> Module:
    """Returns figures 13 and 19."""
    branches = ((Layer(192),), (Layer(192), Layer(second, (1, 3)), Layer(third, (3, 1))))
    return Module("inception_resnet_c", branches, repeats, SCALES[2])


def reduction_b(*, second: int, third: int, last: int) -> Module:
    """Returns figures 12 and 18, from a grid of 17x17 to 8x8."""
    branches = (
        (Layer(256), Layer(384, 3, stride=2)),
        (Layer(256), Layer(second, 3, stride=2)),
        (Layer(256), Layer(third, 3), Layer(last, 3, stride=2)),
        (MAXIMUM,),
    )
    return Module("reduction_b", branches)


STAGES_V1 = (
    *STEM,
    (
        Module("stem3", ((Layer(256, 3, stride=2),),)),
        residual_a(5, second=32, third=32),
    ),
    (
        reduction_a(192, 192, 256, 384),
        residual_b(10, direct=128, second=128, third=128),
    ),
    (
        reduction_b(second=256, third=256, last=256),
        residual_c(5, second=192, third=192),
    ),
)
STAGES_V2 = (
    *STEM,
    (
        Module("stem3", ((MAXIMUM,),)),
        Module(
            "inception_a",
            (
                (Layer(96),),
                (Layer(48), Layer(64, 5)),
                (Layer(64), Layer(96, 3), Layer(96, 3)),
                (AVERAGE, Layer(64)),
            ),
        ),
        residual_a(10, second=48, third=64),
    ),
    (
        reduction_a(256, 256, 384, 384),
        residual_b(20, direct=192, second=160, third=192),
    ),
    (
        reduction_b(second=288, third=288, last=320),
        residual_c(9, second=224, third=256),
        residual_c(1, second=224, third=256)._replace(
            name="inception_resnet_c10", scale=1.0, act=False
        ),
        Module("head", ((Layer(1536),),)),
    ),
)
"""The modules at strides 2, 4, 8, 16 and 32."""

INCEPTION_RESNETS = {
    "inception_resnet_v1": partial(InceptionV4, stages=STAGES_V1),
    "inception_resnet_v2": partial(InceptionV4, stages=STAGES_V2),
}
