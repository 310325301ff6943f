"""Descriptions with every kind of layer, small enough for slow references."""

MAPS = """
[net]
height=12
width=16
channels=3

[convolutional]
batch_normalize=1
filters=8
size=3
pad=1
activation=leaky

[maxpool]
size=2
stride=2

[convolutional]
filters=8
size=3
pad=1
groups=2
activation=mish

[shortcut]
from=-2

[shortcut]
from=0
activation=leaky

[maxpool]
size=3

[convolutional]
batch_normalize=1
filters=12
size=3
stride=2
padding=1
activation=plse

[route]
layers=5

[shortcut]
from=6
activation=tanh

[reorg]
stride=2

[route]
layers=-1,6
groups=2
group_id=1

[convolutional]
filters=14
activation=linear

[yolo]
mask=0,2
anchors=2,3,4,5,6,7
num=3
classes=2

[route]
layers=9

[reorg]
stride=2
reverse=1

[upsample]
scale=.5

[maxpool]
size=2
stride=2
padding=0

[convolutional]
filters=7
size=3
stride=2
pad=1
activation=swish

[region]
anchors=.5,1.5
classes=2

[route]
layers=17

[maxpool]
size=4
stride=3

[avgpool]

[convolutional]
filters=6

[softmax]
groups=2

[cost]
"""
MAPS_SIZES = [
    (12, 16, 8),
    (6, 8, 8),
    (6, 8, 8),
    (6, 8, 8),
    (6, 8, 8),
    (6, 8, 8),
    (3, 4, 12),
    (6, 8, 8),
    (6, 8, 8),
    (3, 4, 32),
    (3, 4, 22),
    (3, 4, 14),
    (3, 4, 14),
    (3, 4, 32),
    (6, 8, 8),
    (12, 16, 8),
    (6, 8, 8),
    (3, 4, 7),
    (3, 4, 7),
    (3, 4, 7),
    (1, 2, 7),
    (1, 1, 7),
    (1, 1, 6),
    (1, 1, 6),
    (1, 1, 6),
]

VECTORS = """
[net]
height=9
width=8
channels=2

[crop]
crop_height=7
crop_width=7

[maxpool]
size=2

[local]
filters=3
size=3
stride=2
pad=1
activation=leaky

[local]
filters=2
size=2
stride=2

[dropout]
probability=.3

[connected]
output=6
batch_normalize=1
activation=relu

[connected]
output=44
activation=linear

[detection]
side=2
num=2
classes=1
coords=4
sqrt=1
"""
VECTORS_SIZES = [
    (7, 7, 2),
    (7, 7, 2),
    (4, 4, 3),
    (2, 2, 2),
    (2, 2, 2),
    (1, 1, 6),
    (1, 1, 44),
    (1, 1, 44),
]

FORK = """
[net]
height=8
width=12
channels=3

[convolutional]
batch_normalize=1
filters=4
size=3
pad=1
activation=relu6

[convolutional]
batch_normalize=1
filters=4
size=3
pad=1
dilation=2
activation=linear

[convolutional]
share_index=1
batch_normalize=1
filters=4
size=3
stride=2
pad=1
activation=mish

[batchnorm]

[local_avgpool]
size=3
stride=1

[convolutional]
filters=4
activation=logistic

[sam]
from=-2

[avgpool]

[scale_channels]
from=4
activation=leaky

[convolutional]
filters=1

[scale_channels]
from=8
scale_wh=1

[reorg3d]
stride=2

[convolutional]
filters=22
activation=linear

[Gaussian_yolo]
mask=1,2
anchors=2,3,4,5,6,7
num=3
classes=2
scale_x_y=1.1

[route]
layers=11

[convolutional]
filters=14
activation=logistic

[yolo]
anchors=4,5,6,7
num=2
classes=2
scale_x_y=2
new_coords=1
nms_kind=diounms
beta_nms=.8

[route]
layers=11

[avgpool]

[softmax]
temperature=2

[contrastive]
"""
FORK_SIZES = [
    (8, 12, 4),
    (8, 12, 4),
    (4, 6, 4),
    (4, 6, 4),
    (4, 6, 4),
    (4, 6, 4),
    (4, 6, 4),
    (1, 1, 4),
    (4, 6, 4),
    (4, 6, 1),
    (4, 6, 4),
    (2, 3, 16),
    (2, 3, 22),
    (2, 3, 22),
    (2, 3, 16),
    (2, 3, 14),
    (2, 3, 14),
    (2, 3, 16),
    (1, 1, 16),
    (1, 1, 16),
    (1, 1, 16),
]
