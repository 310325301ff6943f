"""At which sizes of image the networks were published."""

_USUAL = (224, 224, 3)
_CIFAR = (
    *("densenet_cifar_40_12", "densenet_cifar_100_12"),
    *("densenet_cifar_bc_100_12", "densenet_cifar_bc_190_40"),
    *("nin_cifar", "plain20", "plain32", "plain44", "plain56"),
    *("preact_resnet110", "preact_resnet164", "preact_resnet1001"),
    *("resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "resnet1202"),
    *("wrn_16_8", "wrn_28_10"),
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
    **dict.fromkeys(("fcn_resnet50", "fcn_resnet101"), (520, 520, 3)),
    **dict.fromkeys(("fcn32s_vgg16", "fcn16s_vgg16", "fcn8s_vgg16"), (500, 500, 3)),
    **dict.fromkeys(_INCEPTIONS, (299, 299, 3)),
    **dict.fromkeys(("resunet", "unet", "unet_backbone"), (256, 256, 3)),
    **dict.fromkeys(("srcnn_915", "srcnn_935", "srcnn_955"), (33, 33, 1)),
    **dict.fromkeys(("swin_v2_t", "swin_v2_s", "swin_v2_b"), (256, 256, 3)),
    **dict.fromkeys(("yolov1", "fast_yolov1"), (448, 448, 3)),
    **dict.fromkeys(("yolov2", "yolov2_tiny", "yolov3", "yolov3_tiny"), (416, 416, 3)),
    "alexnet_2012": (227, 227, 3),
    "darknet53": (256, 256, 3),
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
    "unet_valid": (572, 572, 1),
    "yolov3_spp": (608, 608, 3),
}


def input_size(name: str) -> tuple[int, int, int]:
    """(height, width, channels) of the images of the network called `name`.

    Of torchvision's networks those that its weights were evaluated at; of the others the papers'.
    """
    return _OTHERS.get(name, _USUAL)
