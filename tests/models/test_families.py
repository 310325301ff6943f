"""A tiny network of every family in training: one program gives all that is checked of it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.layers import batch_norm
from jaxvision.models import create_model
from tests.marks import long_but
from tests.models import (
    test_alexnet,
    test_alexnet_2012,
    test_convnext,
    test_darknet,
    test_deconvnet,
    test_deeplabv3,
    test_densenet,
    test_dncnn,
    test_efficientnet,
    test_fcn,
    test_googlenet,
    test_inception_resnet,
    test_inception_v3,
    test_inception_v4,
    test_lraspp,
    test_maxvit,
    test_mnasnet,
    test_mobilenet_v1,
    test_mobilenet_v2,
    test_mobilenet_v3,
    test_nin,
    test_preact_resnet,
    test_regnet,
    test_resnet,
    test_resnet9,
    test_resnet_cifar,
    test_senet,
    test_shufflenet_v1,
    test_shufflenet_v2,
    test_squeezenet,
    test_srcnn,
    test_swin,
    test_unet,
    test_vgg,
    test_vit,
    test_xception,
    test_zfnet,
)
from tests.models.training import check_training, train
from tests.models.variables import shapes_of

partial = functools.partial
# Chance of every kind, where a network has it.
DROPOUT = {"dropout": 0.5}
PATHS = {"drop_path": 0.5}
BOTH = {**DROPOUT, **PATHS}


def darknet(kind, **fields):
    return test_darknet.TINY[kind].clone(**fields)


def restorer(name, **fields):
    return create_model(name, **test_srcnn.TINY, **fields)


def classifier(*maps, pooled, classes=3, first=1, **others):
    """name -> shape: of maps from a number on, of what is pooled, of logits and of others."""
    shapes = {f"c{number}": shape for number, shape in enumerate(maps, start=first)}
    return {**shapes, "pooled": (pooled,), "logits": (classes,), **others}


LOGITS = {"logits"}
HEAD = {"pooled", "logits"}
# The network without its fields; (height, width, channels) of images; fields; the shapes of an
# image's maps in training; those that chance reaches.
NETWORKS = {
    "alexnet": (
        test_alexnet.tiny,
        (63, 80, 3),
        DROPOUT,
        classifier((15, 19, 4), (7, 9, 4), (3, 4, 8), (1, 1, 8), first=2, pooled=288),
        LOGITS,
    ),
    "alexnet_2012": (
        test_alexnet_2012.tiny,
        (39, 48, 3),
        DROPOUT,
        classifier((8, 10, 6), (4, 5, 16), (2, 2, 16), (1, 1, 16), first=2, pooled=576),
        LOGITS,
    ),
    "convnext": (
        test_convnext.tiny,
        (17, 27, 3),
        PATHS,
        classifier((4, 6, 4), (2, 3, 6), first=2, pooled=6),
        {"c3", *HEAD},
    ),
    "plain_darknet": (
        partial(darknet, "conv"),
        (16, 24, 3),
        {},
        classifier((16, 24, 4), (8, 12, 8), first=0, pooled=8),
        set(),
    ),
    "plain_darknet, fc": (
        partial(darknet, "fc"),
        (16, 24, 3),
        {},
        classifier((8, 12, 8), pooled=8),
        set(),
    ),
    "darknet53": (
        partial(darknet, "residual"),
        (16, 24, 3),
        {},
        classifier((8, 12, 6), (4, 6, 8), pooled=8),
        set(),
    ),
    "cspdarknet53": (
        partial(darknet, "partial"),
        (16, 24, 3),
        {},
        classifier((8, 12, 6), (4, 6, 8), pooled=8),
        set(),
    ),
    "tiny_cspdarknet": (
        partial(darknet, "tiny partial"),
        (16, 24, 3),
        {},
        classifier((8, 12, 4), (4, 6, 6), (2, 3, 8), pooled=8),
        set(),
    ),
    **{
        name: (
            test_deconvnet.tiny,
            (16, 12, 3),
            fields,
            {
                "c0": (16, 12, 4),
                "c1": (8, 6, 6),
                "fc7": (3, 2, 8),
                "d1": (8, 6, 4),
                "d0": (16, 12, 4),
                "logits": (16, 12, 3),
            },
            set(),
        )
        for name, fields in (("deconvnet", {}), ("deconvnet, no norm", {"norm": None}))
    },
    "deeplabv3": (
        test_deeplabv3.tiny,
        (32, 40, 3),
        {**DROPOUT, "dropout_aux": 0.5},
        {"c1": (16, 20, 8), "c2": (8, 10, 16), "logits": (32, 40, 3), "aux": (32, 40, 3)},
        {"logits", "aux"},
    ),
    "densenet": (
        test_densenet.tiny,
        (17, 22, 3),
        DROPOUT,
        classifier((9, 11, 4), (5, 6, 6), (2, 3, 7), pooled=7),
        {"c2", "c3", *HEAD},
    ),
    "densenet_cifar": (
        test_densenet.tiny_cifar,
        (6, 9, 3),
        {},
        classifier((6, 9, 4), (6, 9, 6), (3, 4, 10), pooled=10),
        set(),
    ),
    **{
        name: (
            test_dncnn.tiny,
            (7, 6, 1),
            fields,
            {"residual": (7, 6, 1), "image": (7, 6, 1)},
            set(),
        )
        for name, fields in (("dncnn", {}), ("dncnn, no norm", {"norm": None}))
    },
    "efficientnet": (
        test_efficientnet.tiny,
        (17, 22, 3),
        BOTH,
        classifier((9, 11, 8), (5, 6, 8), pooled=1280),
        {"c2", *HEAD},
    ),
    "fcn": (
        partial(test_fcn.tiny, "fcn_resnet50"),
        (32, 40, 3),
        DROPOUT,
        {"c1": (16, 20, 8), "c2": (8, 10, 16), "logits": (32, 40, 3), "aux": (32, 40, 3)},
        {"logits", "aux"},
    ),
    "lraspp": (
        test_lraspp.tiny,
        (32, 40, 3),
        {},
        {"c1": (16, 20, 8), "c2": (8, 10, 16), "logits": (32, 40, 3)},
        set(),
    ),
    "fcn8s": (
        partial(test_fcn.tiny, "fcn8s_vgg16"),
        (32, 40, 3),
        DROPOUT,
        {
            "c0": (48, 56, 4),
            "c1": (24, 28, 6),
            "c2": (12, 14, 8),
            "c3": (6, 7, 8),
            "fc7": (4, 5, 8),
            "logits": (32, 40, 3),
        },
        {"fc7", "logits"},
    ),
    "googlenet": (
        partial(test_googlenet.tiny, stages=test_googlenet.STAGES[:1]),
        (31, 40, 3),
        {"aux": True, "transform_input": True, **DROPOUT, "dropout_aux": 0.5},
        classifier((16, 20, 4), (8, 10, 12), (4, 5, 20), pooled=20, aux1=(3,)),
        {"logits", "aux1"},
    ),
    "googlenet_2014": (
        partial(test_googlenet.tiny, "googlenet_2014"),
        (79, 80, 3),
        {"aux": True, **DROPOUT, "dropout_aux": 0.5},
        classifier(
            (40, 40, 4), (20, 20, 12), (10, 10, 20), (5, 5, 18), pooled=18, aux1=(3,), aux2=(3,)
        ),
        {"logits", "aux1", "aux2"},
    ),
    "inception_resnet": (
        test_inception_resnet.tiny,
        (75, 96, 3),
        DROPOUT,
        classifier((37, 47, 8), (18, 23, 8), (8, 11, 8), (3, 5, 8), (3, 5, 8), pooled=8),
        LOGITS,
    ),
    "inception_v3": (
        test_inception_v3.tiny,
        (75, 96, 3),
        {"transform_input": True, **DROPOUT},
        classifier((35, 45, 4), (15, 20, 12), (7, 9, 8), (3, 4, 12), (1, 1, 8), pooled=8),
        LOGITS,
    ),
    "inception_v3, aux": (
        test_inception_v3.tiny,
        (299, 300, 3),
        {"aux": True, **DROPOUT},
        classifier(
            (147, 147, 4), (71, 71, 12), (35, 35, 8), (17, 17, 12), (8, 8, 8), pooled=8, aux=(3,)
        ),
        LOGITS,
    ),
    "inception_v4": (
        test_inception_v4.tiny,
        (75, 96, 3),
        DROPOUT,
        classifier((35, 45, 4), (15, 20, 4), (7, 9, 8), (3, 4, 12), (1, 1, 8), pooled=8),
        LOGITS,
    ),
    **{
        name: (
            partial(create_model, name),
            (32, 32, 1),
            {},
            {"c1": (28, 28, 6), "c3": (10, 10, 16), "pooled": (84,), "logits": (10,)},
            set(),
        )
        for name in ("lenet5", "lenet5_1998")
    },
    "maxvit": (
        partial(test_maxvit.tiny, **test_maxvit.ONE_STAGE),
        (8, 16, 3),
        BOTH,
        classifier((4, 8, 4), (2, 4, 4), pooled=4),
        {"c2", *HEAD},
    ),
    "maxvit, two stages": (
        test_maxvit.tiny,
        (16, 32, 3),
        BOTH,
        classifier((8, 16, 4), (4, 8, 4), (2, 4, 8), pooled=8),
        {"c2", "c3", *HEAD},
    ),
    "mnasnet": (
        test_mnasnet.tiny,
        (17, 22, 3),
        BOTH,
        classifier((9, 11, 8), (5, 6, 8), pooled=1280),
        {"c2", *HEAD},
    ),
    "mobilenet_v1": (
        test_mobilenet_v1.tiny,
        (17, 22, 3),
        {},
        classifier((9, 11, 8), (5, 6, 16), pooled=16),
        set(),
    ),
    "mobilenet_v2": (
        test_mobilenet_v2.tiny,
        (17, 22, 3),
        BOTH,
        classifier((9, 11, 8), (5, 6, 8), pooled=1280),
        {"c2", *HEAD},
    ),
    "mobilenet_v3": (
        test_mobilenet_v3.tiny,
        (17, 22, 3),
        BOTH,
        classifier((9, 11, 8), (5, 6, 8), pooled=48),
        {"c2", *HEAD},
    ),
    "nin": (
        test_nin.tiny,
        (16, 21, 3),
        DROPOUT,
        classifier((16, 21, 4), (8, 10, 8), first=0, pooled=8),
        {"c1", *HEAD},
    ),
    "preact_resnet": (
        test_preact_resnet.tiny,
        (9, 14, 3),
        DROPOUT,
        classifier((9, 14, 4), (9, 14, 4), (5, 7, 6), pooled=6),
        {"c2", "c3", *HEAD},
    ),
    "preact_resnet, bottleneck": (
        test_preact_resnet.tiny,
        (9, 14, 3),
        {"bottleneck": True, **DROPOUT},
        classifier((9, 14, 4), (9, 14, 16), (5, 7, 24), pooled=24),
        {"c2", "c3", *HEAD},
    ),
    "regnet": (
        test_regnet.tiny,
        (17, 22, 3),
        {"stages": test_regnet.SHALLOWER, "se_ratio": 1.0, **PATHS},
        classifier((9, 11, 4), (5, 6, 8), (3, 3, 12), pooled=12),
        {"c2", "c3", *HEAD},
    ),
    **{
        f"resnet, {kind}": (
            test_resnet.tiny,
            (33, 40, 3),
            fields,
            classifier(
                (17, 20, 4),
                (9, 10, times * 4),
                (5, 5, times * 4),
                (3, 3, times * 6),
                (2, 2, times * 8),
                pooled=times * 8,
            ),
            {"c2", "c3", "c4", "c5", *HEAD} if "drop_path" in fields else set(),
        )
        for kind, times, fields in (
            ("basic", 1, {**test_resnet.BASIC, **PATHS}),
            ("grouped", 4, {**test_resnet.GROUPED, **PATHS}),
            ("plain", 1, test_resnet.PLAIN),
            ("squeezed", 4, {**test_resnet.SQUEEZED, **PATHS}),
        )
    },
    **{
        name: (
            test_resnet_cifar.tiny,
            (8, 13, 3),
            fields,
            classifier((8, 13, 4), (8, 13, 4), (4, 7, 6), (2, 4, 9), pooled=9),
            set(),
        )
        for name, fields in (("resnet_cifar", {}), ("resnet_cifar, plain", {"shortcuts": False}))
    },
    "resnet9": (
        test_resnet9.tiny,
        (17, 22, 3),
        {},
        classifier((17, 22, 4), (8, 11, 5), (4, 5, 6), (2, 2, 7), first=0, pooled=7),
        set(),
    ),
    "senet": (
        test_senet.tiny,
        (35, 40, 3),
        DROPOUT,
        classifier((18, 20, 8), (9, 10, 16), (5, 5, 16), (3, 3, 24), (2, 2, 24), pooled=24),
        LOGITS,
    ),
    "shufflenet_v1": (
        test_shufflenet_v1.tiny,
        (17, 22, 3),
        {},
        classifier((9, 11, 4), (5, 6, 4), (3, 3, 16), pooled=16),
        set(),
    ),
    "shufflenet_v2": (
        test_shufflenet_v2.tiny,
        (17, 22, 3),
        {},
        classifier((9, 11, 4), (5, 6, 4), (3, 3, 8), pooled=6),
        set(),
    ),
    "squeezenet": (
        test_squeezenet.tiny,
        (33, 40, 3),
        DROPOUT,
        classifier((16, 19, 6), (8, 9, 12), (4, 4, 16), pooled=16),
        LOGITS,
    ),
    **{
        f"{name}{kind}": (partial(restorer, name), (17, 16, 1), fields, {"image": shape}, set())
        for name, shape in (("srcnn_915", (17, 16, 1)), ("espcn", (51, 48, 1)))
        for kind, fields in (("", {}), (", norm", {"norm": batch_norm}))
    },
    **{
        name: (
            test_swin.tiny,
            (15, 21, 3),
            {"blocks": (2,), "version": version, **BOTH},
            classifier((3, 5, 4), first=2, pooled=4),
            {"c2", *HEAD},
        )
        for name, version in (("swin", 1), ("swin_v2", 2))
    },
    **{
        name: (
            partial(test_unet.tiny, name),
            (20, 28, 3),
            {},
            {"c0": (20, 28, 4), "c1": (10, 14, 6), "d0": (20, 28, 4), "logits": (20, 28, 3)},
            set(),
        )
        for name in ("unet", "resunet", "resunet, other ways")
    },
    "unet_valid": (
        partial(test_unet.tiny, "unet_valid"),
        (20, 28, 3),
        DROPOUT,
        {"c0": (16, 24, 4), "c1": (4, 8, 6), "d0": (4, 12, 4), "logits": (4, 12, 3)},
        {"d0", "logits"},
    ),
    "unet_backbone": (
        partial(test_unet.tiny, "unet_backbone"),
        (20, 28, 3),
        {},
        {
            "c0": (20, 28, 4),
            "c1": (10, 14, 6),
            "d0": (20, 28, 4),
            "logits": (20, 28, 3),
            "aux": (20, 28, 3),
        },
        set(),
    ),
    "vgg": (
        test_vgg.tiny,
        (9, 14, 3),
        DROPOUT,
        classifier((9, 14, 4), (4, 7, 6), (2, 3, 6), first=0, pooled=294),
        LOGITS,
    ),
    "vit": (
        test_vit.tiny,
        (12, 12, 3),
        BOTH,
        {"tokens": (10, 8), "pooled": (8,), "logits": (3,)},
        {"tokens", *HEAD},
    ),
    "xception": (
        partial(test_xception.tiny, stages=test_xception.STAGES[::2]),
        (31, 40, 3),
        DROPOUT,
        classifier((13, 17, 4), (7, 9, 4), (4, 5, 128), pooled=128),
        LOGITS,
    ),
    "zfnet": (
        test_zfnet.tiny,
        (47, 60, 3),
        DROPOUT,
        classifier((22, 28, 6), (11, 14, 6), (4, 5, 16), (2, 2, 16), (1, 1, 16), pooled=576),
        LOGITS,
    ),
}
WIDE = {"dncnn": {"image"}, "dncnn, no norm": {"image"}}
QUICK = [
    "dncnn",
    "espcn",
    "lenet5",
    "resnet_cifar",
    "srcnn_915",
    "vgg",
]
LONG = [
    "deconvnet, no norm",
    "dncnn, no norm",
    "espcn, norm",
    "googlenet_2014",
    "inception_v3, aux",
    "maxvit, two stages",
    "plain_darknet, fc",
    "preact_resnet, bottleneck",
    "resnet, grouped",
    "resnet, plain",
    "resnet, squeezed",
    "resnet_cifar, plain",
    "resunet, other ways",
    "srcnn_915, norm",
    "swin",
    "unet",
]
SLOW = [name for name in NETWORKS if name not in QUICK + LONG]


@pytest.mark.parametrize("name", long_but(NETWORKS, QUICK, SLOW))
def test_networks_learn_in_bfloat16_and_chance_comes_from_the_key(name):
    make, size, fields, shapes, random = NETWORKS[name]
    images = np.random.default_rng(0).normal(size=(4, *size)).astype(np.float32)
    model = make(**fields, dtype=jnp.bfloat16)
    check_training(model, images, shapes, random=random, wide=WIDE.get(name, ()))


def test_dropout_needs_a_key_in_training():
    images = np.zeros((2, 63, 63, 3), np.float32)
    model = test_alexnet.tiny(**DROPOUT)
    _, variables = shapes_of(model, images)
    with pytest.raises(Exception, match="dropout"):
        jax.eval_shape(functools.partial(train, model), variables, images)
