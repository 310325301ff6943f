"""The images that the networks were published with: size, mean, standard deviation, resizing."""

from typing import Any

_USUAL = (224, 224, 3)
_CIFAR = (
    *("densenet_cifar_40_12", "densenet_cifar_100_12"),
    *("densenet_cifar_bc_100_12", "densenet_cifar_bc_190_40"),
    *("nin_cifar", "plain20", "plain32", "plain44", "plain56"),
    *("preact_resnet110", "preact_resnet164", "preact_resnet1001"),
    *("resnet9", "resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "resnet1202"),
    *("wrn_16_8", "wrn_28_10"),
)
_RCNNS = (
    *("faster_rcnn", "mask_rcnn", "keypoint_rcnn", "rpn_resnet50_fpn"),
    *("fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2", "fasterrcnn_mobilenet_v3_large_fpn"),
    *("fasterrcnn_vgg16", "fasterrcnn_resnet50_c4"),
    *("fast_rcnn", "fastrcnn_vgg16", "fastrcnn_resnet50_fpn"),
    *("maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2", "keypointrcnn_resnet50_fpn"),
)
_SEGMENTERS = (
    *("deeplabv3_resnet50", "deeplabv3_resnet101", "deeplabv3_mobilenet_v3_large"),
    *("fcn_resnet50", "fcn_resnet101", "lraspp_mobilenet_v3_large"),
)
_INCEPTIONS = (
    "inception_resnet_v1",
    "inception_resnet_v2",
    "inception_v3",
    "inception_v4",
    "xception",
)
_OTHERS = {
    **dict.fromkeys(_CIFAR, (32, 32, 3)),
    **dict.fromkeys(("efficientnet_v2_m", "efficientnet_v2_l"), (480, 480, 3)),
    **dict.fromkeys(_SEGMENTERS, (520, 520, 3)),
    **dict.fromkeys(("fcn32s_vgg16", "fcn16s_vgg16", "fcn8s_vgg16"), (500, 500, 3)),
    **dict.fromkeys(_INCEPTIONS, (299, 299, 3)),
    **dict.fromkeys(("resunet", "unet", "unet_backbone"), (256, 256, 3)),
    **dict.fromkeys(("srcnn_915", "srcnn_935", "srcnn_955"), (33, 33, 1)),
    **dict.fromkeys(("swin_v2_t", "swin_v2_s", "swin_v2_b"), (256, 256, 3)),
    **dict.fromkeys(("retinanet", "retinanet_resnet50_fpn"), (800, 1088, 3)),
    **dict.fromkeys(("retinanet_resnet50_fpn_v2", "fcos", "fcos_resnet50_fpn"), (800, 1088, 3)),
    **dict.fromkeys(_RCNNS, (800, 1088, 3)),
    "fasterrcnn_mobilenet_v3_large_320_fpn": (320, 448, 3),
    **dict.fromkeys(("ssd", "ssd300_vgg16"), (300, 300, 3)),
    **dict.fromkeys(("ssdlite", "ssdlite320_mobilenet_v3_large"), (320, 320, 3)),
    **dict.fromkeys(("yolov1", "fast_yolov1"), (448, 448, 3)),
    **dict.fromkeys(
        ("yolov2", "yolov2_tiny", "yolov3", "yolov3_tiny", "yolov4_tiny"), (416, 416, 3)
    ),
    "alexnet_2012": (227, 227, 3),
    **dict.fromkeys(("cspdarknet53", "darknet53"), (256, 256, 3)),
    "dncnn_b": (50, 50, 1),
    "dncnn_s": (40, 40, 1),
    "efficientnet_b1": (240, 240, 3),
    "efficientnet_b2": (288, 288, 3),
    "efficientnet_b3": (300, 300, 3),
    "efficientnet_b4": (380, 380, 3),
    "efficientnet_b5": (456, 456, 3),
    "efficientnet_b6": (528, 528, 3),
    "efficientnet_b7": (600, 600, 3),
    "efficientnet_v2_s": (384, 384, 3),
    "espcn": (17, 17, 1),
    "lenet5": (32, 32, 1),
    "lenet5_1998": (32, 32, 1),
    "nasnet_a_large": (331, 331, 3),
    "ssd512_vgg16": (512, 512, 3),
    "unet_valid": (572, 572, 1),
    "yolo9000": (544, 544, 3),
    **dict.fromkeys(("yolov3_spp", "yolov4", "yolov4_tiny_3l"), (608, 608, 3)),
    "yolov4_csp": (512, 512, 3),
}

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of red, green and blue of ImageNet's training images, in 0..1."""

_IMAGENET = (
    *("fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2", "fasterrcnn_mobilenet_v3_large_fpn"),
    *("fasterrcnn_mobilenet_v3_large_320_fpn", "maskrcnn_resnet50_fpn"),
    *("maskrcnn_resnet50_fpn_v2", "keypointrcnn_resnet50_fpn"),
    *("retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2", "fcos_resnet50_fpn"),
    *_SEGMENTERS,
    *("alexnet", "maxvit_t", "mobilenet_v2"),
    *("convnext_tiny", "convnext_small", "convnext_base", "convnext_large"),
    *("densenet121", "densenet161", "densenet169", "densenet201"),
    *(f"efficientnet_{size}" for size in ("b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7")),
    *("efficientnet_v2_s", "efficientnet_v2_m", "mobilenet_v3_large", "mobilenet_v3_small"),
    *("mnasnet0_5", "mnasnet0_75", "mnasnet1_0", "mnasnet1_3"),
    *(f"regnet_x_{size}" for size in ("400mf", "800mf", "1_6gf", "3_2gf", "8gf", "16gf", "32gf")),
    *(f"regnet_y_{size}" for size in ("400mf", "800mf", "1_6gf", "3_2gf", "8gf", "16gf", "32gf")),
    *("regnet_y_128gf", "squeezenet1_0", "squeezenet1_1", "wide_resnet50_2", "wide_resnet101_2"),
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d"),
    *(f"shufflenet_v2_{width}" for width in ("x0_5", "x1_0", "x1_5", "x2_0")),
    *("swin_t", "swin_s", "swin_b", "swin_v2_t", "swin_v2_s", "swin_v2_b"),
    *("vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"),
    *("vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32", "vit_h_14"),
)
_DARKNET = (
    *("darknet19", "darknet53", "extraction", "yolov1", "fast_yolov1", "yolov2", "yolov2_tiny"),
    *("yolo9000", "yolov3", "yolov3_spp", "yolov3_tiny", "cspdarknet53"),
    *("yolov4", "yolov4_tiny", "yolov4_tiny_3l", "yolov4_csp"),
)
_FIGURES = {
    **dict.fromkeys(_IMAGENET, (IMAGENET_MEAN, IMAGENET_STD)),
    **dict.fromkeys(_DARKNET, ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))),
    # Caffe's weights of VGG take values in 0..255.
    **dict.fromkeys(
        ("ssd300_vgg16", "ssd512_vgg16"), ((0.48235, 0.45882, 0.40784), (1 / 255,) * 3)
    ),
    "ssdlite320_mobilenet_v3_large": ((0.5,) * 3, (0.5,) * 3),
    # The first two if `transform_input` is False; if True, images have ImageNet's mean and std.
    **dict.fromkeys(("googlenet", "inception_v3", "efficientnet_v2_l"), ((0.5,) * 3, (0.5,) * 3)),
}


_PYRAMIDS = (
    *("retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2", "fcos_resnet50_fpn"),
    *("fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2", "fasterrcnn_mobilenet_v3_large_fpn"),
    *("maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2", "keypointrcnn_resnet50_fpn"),
)
_SSDS = ("ssd300_vgg16", "ssd512_vgg16", "ssdlite320_mobilenet_v3_large")
_SHORTER_SIDE = {"resize": "shorter_side", "shorter_side": 800, "longer_side": 1333}
_LONG_SIDE_640 = {"resize": "shorter_side", "shorter_side": 320, "longer_side": 640}
_EXACT = {"shapes": "exact", "resampling": "float32"}
_RESIZING = {
    "fasterrcnn_mobilenet_v3_large_320_fpn": {**_LONG_SIDE_640, **_EXACT},
    **{name: {**_SHORTER_SIDE, **_EXACT} for name in _PYRAMIDS},
    **{name: {"resize": "stretch", "resampling": "float32"} for name in _SSDS},
}


def input_resizing(name: str) -> dict[str, Any]:
    """Returns how torchvision's detectors resize images: options of `jaxvision.Inputs`.

    The result is empty for other networks.
    """
    return dict(_RESIZING.get(name, {}))


def input_size(name: str) -> tuple[int, int, int]:
    """Returns (height, width, channels) of the images of the network with this name.

    For the networks of torchvision, it is the size at which their weights were evaluated. For the
    others, it is the size in the paper.
    """
    return _OTHERS.get(name, _USUAL)


def input_figures(name: str) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Returns (mean, std) of each channel, which normalise images for the network with this name.

    They apply to values in 0..1. They are those of torchvision's or Darknet's weights, for the
    network that `create_model` builds by default. The result is None for networks for which neither
    torchvision nor Darknet has weights.
    """
    return _FIGURES.get(name)
