"""Every family of networks, tiny: name -> (the network without its fields, the shape of images)."""

from functools import partial

from jaxvision.interop import DarknetNetwork, parse_cfg
from jaxvision.models import create_model
from tests.models import (
    test_families,
    test_faster_rcnn,
    test_localizer,
    test_nasnet,
    test_one_stage,
    test_yolo,
)

CFG = """
[net]
height=32
width=32
channels=3
[convolutional]
batch_normalize=1
filters=4
size=3
stride=2
pad=1
activation=leaky
[convolutional]
batch_normalize=1
filters=4
size=1
activation=mish
[shortcut]
from=-2
activation=linear
[convolutional]
filters=16
size=1
activation=linear
[yolo]
mask=0,1
anchors=4,6,9,9
num=2
classes=3
"""


def darknet(**fields):
    return DarknetNetwork(parse_cfg(CFG), **fields)


NETWORKS = {
    **{
        name: (partial(make, **fields), size)
        for name, (make, size, fields, _, _) in test_families.NETWORKS.items()
    },
    "nasnet": (partial(test_nasnet.tiny, cells=0), (33, 33, 3)),
    **{name: (partial(test_one_stage.tiny, name), (96, 128, 3)) for name in test_one_stage.TINY},
    **{
        f"rcnn, {form}": (partial(test_faster_rcnn.tiny, **fields), (64, 96, 3))
        for form, fields in test_faster_rcnn.FORMS.items()
    },
    **{
        name: (partial(test_yolo.tiny, name), (128, 128, 3) if "v1" in name else (64, 64, 3))
        for name in test_yolo.TINY
    },
    "localizer": (
        partial(create_model, "localizer", num_classes=3, backbone=test_localizer.BACKBONE),
        (16, 16, 3),
    ),
    "darknet": (darknet, (32, 32, 3)),
}
