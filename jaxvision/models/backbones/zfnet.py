"""ZFNet (Zeiler & Fergus 2014, "Visualizing and understanding convolutional networks", figure 3):
AlexNet in one tower, with smaller kernels and strides in its first layers."""

from functools import partial

from jaxvision.models.backbones.alexnet_2012 import AlexNet2012, Layer, Stage


def _stages(*channels: int) -> tuple[Stage, ...]:
    """Returns the stages, whose last three convolutions have these channels.

    Local response normalisation follows the pooling here, and poolings round up: for 224x224 the
    sides are 110, 55, 26, 13 and 6, as in the paper.
    """
    return (
        Stage(1, (Layer(96, 7, stride=2),)),
        Stage(2, pool=True, local_norm=True),
        Stage(3, (Layer(256, 5, stride=2, padding=0),)),
        Stage(4, pool=True, local_norm=True),
        Stage(4, tuple(Layer(width, 3) for width in channels)),
        Stage(5, pool=True),
    )


_in_one_tower = partial(AlexNet2012, towers=1, hidden_bias=0.0)

ZFNETS = {
    "zfnet": partial(_in_one_tower, stages=_stages(384, 384, 256)),
    "zfnet_512": partial(_in_one_tower, stages=_stages(512, 1024, 512)),
}
"""The network of figure 3, and (b) of table 2. Both return maps c1 to c5. The sides of the images
must be at least 47."""
