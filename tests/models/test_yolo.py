"""YOLOv1 to v4: published sizes, shapes that the losses take, gradients, the order of parts."""

from functools import partial

import jax
import numpy as np
import pytest

from jaxvision.layers import batch_norm
from jaxvision.losses import yolov1_loss, yolov2_loss, yolov3_loss
from jaxvision.models import create_model
from jaxvision.models.backbones.cspdarknet import CSPDarknet53, TinyCSPDarknet
from jaxvision.models.backbones.darknet import Darknet53, PlainDarknet, Stage
from jaxvision.models.detection.yolov3 import Scale, spatial_pyramid
from jaxvision.ops import max_pool
from tests.marks import long_but
from tests.models.structure import size_of
from tests.models.test_darknet import images_of
from tests.models.variables import check_learns, random_variables, shapes_of

STAGES = (Stage(1, ((4, 3),)), *(Stage(level, ((4, 1),)) for level in (2, 3, 4, 5)))
TINY = {
    "yolov1": {"stages": STAGES, "convolutions": ((6, 1), (6, 2)), "hidden": (8,)},
    "fast_yolov1": {"stages": (*STAGES, Stage(6, ((4, 1),))), "hidden": (5, 8)},
    "yolov2": {
        "backbone": partial(PlainDarknet, STAGES),
        "convolutions": (6, 6),
        "passthrough": 2,
    },
    "yolov3_spp": {
        "backbone": partial(Darknet53, blocks=(0, 0, 0, 0, 1), widths=(4,) * 6),
        "scales": (
            Scale(5, None, ((4, 1), (6, 3)), 6),
            Scale(4, 2, ((4, 1),), 6),
            Scale(3, 2, (), 6),
        ),
    },
    **{
        name: {
            "backbone": partial(CSPDarknet53, blocks=(0, 0, 0, 0, 1), widths=(4,) * 6),
            "scales": ((5, 6), (4, 4), (3, 2)),
        }
        for name in ("yolov4", "yolov4_csp")
    },
    "yolov4_tiny_3l": {
        "backbone": partial(TinyCSPDarknet, widths=(4,) * 5),
        "scales": (Scale(5, None, ((4, 1),), 6), Scale(4, 2, ((4, 3),), None), Scale(3, 2, (), 4)),
    },
}
SIDES = ((5, 14), (4, 28), (3, 56))  # of the maps of 448 x 448
BOXES = np.float32([[3, 5, 60, 40], [70, 70, 120, 100]])
TRUTH = (BOXES, np.int32([2, 0]), np.bool_([True, True]))


def tiny(name, **fields):
    return create_model(name, num_classes=3, **TINY[name], **fields)


# Of v2 and v3 the floats of the published .weights files: of yolov2-voc 202,704,260 bytes with
# a header of 16, of yolov2-tiny-voc 63,471,556, of yolov3 248,007,048 with a header of 20, of
# yolov3-spp 252,209,544, of yolov3-tiny 35,434,956, of yolo9000 195,230,024 with a header of 20.
PUBLISHED = [
    ("yolov1", 271_703_550, 0),
    ("fast_yolov1", 45_089_374, 0),
    ("yolov2", 50_655_389, 20_672),
    ("yolov2_tiny", 15_861_773, 6_112),
    ("yolo9000", 48_793_101, 14_400),
    ("yolov3", 61_949_149, 52_608),
    ("yolov3_spp", 62_998_749, 53_632),
    ("yolov3_tiny", 8_852_366, 6_368),
    ("yolov4", 64_363_101, 66_304),
    ("yolov4_csp", 52_921_437, 64_768),
    ("yolov4_tiny", 6_056_606, 6_208),
    ("yolov4_tiny_3l", 6_327_453, 6_592),
]
SMALL = ("fast_yolov1", "yolov2_tiny", "yolov3_tiny", "yolov4_tiny", "yolov4_tiny_3l")
LARGE = ("yolov1", "yolov2", "yolo9000", "yolov3", "yolov4", "yolov4_csp")


def small_and_large(rows):
    """Rows of the small networks are default ones, of the large ones slow."""
    return long_but(rows, *([row for row in rows if row[0] in names] for names in (SMALL, LARGE)))


@pytest.mark.parametrize(("name", "parameters", "statistics"), small_and_large(PUBLISHED))
def test_published_sizes(name, parameters, statistics):
    _, variables = shapes_of(create_model(name), images_of(1, 448 if "v1" in name else 64))
    assert size_of(variables["params"]) == parameters
    assert size_of(variables.get("batch_stats", {})) == statistics


SHAPES = [
    (
        "yolov1",
        {},
        {"coordinates": (7, 7, 2, 4), "confidence": (7, 7, 2), "class_scores": (7, 7, 20)},
    ),
    (
        "fast_yolov1",
        {"classes_of_boxes": True, "num_boxes": 3},
        {"coordinates": (7, 7, 3, 4), "confidence": (7, 7, 3), "class_scores": (7, 7, 3, 20)},
    ),
    ("yolov2", {}, {"logits": (14, 14, 5, 25)}),
    ("yolov2_tiny", {"num_anchors": 3}, {"logits": (14, 14, 3, 25)}),
    ("yolo9000", {}, {"logits": (14, 14, 3, 9423)}),
    ("yolov3", {}, {f"logits{i}": (s, s, 3, 85) for i, s in SIDES}),
    ("yolov3_spp", {"num_classes": 2}, {f"logits{i}": (s, s, 3, 7) for i, s in SIDES}),
    ("yolov3_tiny", {}, {f"logits{i}": (s, s, 3, 85) for i, s in SIDES[:2]}),
    ("yolov4", {}, {f"logits{i}": (s, s, 3, 85) for i, s in SIDES}),
    ("yolov4_tiny", {}, {f"logits{i}": (s, s, 3, 85) for i, s in SIDES[:2]}),
    ("yolov4_tiny_3l", {"num_classes": 2}, {f"logits{i}": (s, s, 3, 7) for i, s in SIDES}),
]


@pytest.mark.parametrize(("name", "fields", "expected"), small_and_large(SHAPES))
def test_shapes(name, fields, expected):
    maps, _ = shapes_of(create_model(name, **fields), images_of(2, 448))
    assert {key: x.shape for key, x in maps.items()} == {k: (2, *v) for k, v in expected.items()}


def loss_of(name, maps):
    """The loss of the first image."""
    outputs = [x[0] for x in maps.values()]
    if "v1" in name:
        return yolov1_loss(*outputs, *TRUTH, image_size=(128, 128), predicts_roots=False)
    anchors = np.float32([[20, 30], [60, 40], [30, 70]])
    if "v2" in name:
        return yolov2_loss(*outputs, *TRUTH, anchors, np.int32(0), stride=32)
    outputs = [maps[key][0] for key in sorted(maps, reverse=True)]  # coarse to fine
    return yolov3_loss(
        outputs, *TRUTH, [anchors * s for s in (2, 1, 0.5)], strides=(32, 16, 8), ignore_threshold=1
    )


@pytest.mark.parametrize("name", long_but(TINY, [], ["fast_yolov1", "yolov2"]))
def test_every_parameter_learns_from_the_loss(name):
    # Of one image of 128 x 128 with a norm, c5 would have too few pixels for its variances.
    fields = {"dropout": 0.0} if "v1" in name else {"num_anchors": 3, "norm": None}
    model, images = tiny(name, **fields), images_of(2, 128)
    variables = random_variables(model, images)

    def objective(params):
        maps = model.apply({"params": params}, images, train=False)
        return sum(total for total, _ in loss_of(name, maps).values())

    check_learns(objective, variables["params"])


def test_steps_from_yolo_to_yolov2_are_fields():
    plain = tiny("yolov1")
    x = images_of(2, 128)
    _, variables = shapes_of(plain, x)
    assert {"fc1", "fc2"} <= variables["params"].keys()
    assert "batch_stats" not in variables
    _, normed = shapes_of(tiny("yolov1", norm=batch_norm), x)
    assert normed["batch_stats"].keys() == {"backbone", "bn1", "bn2"}
    maps, convolutional = shapes_of(
        create_model("yolov1", num_classes=3, **{**TINY["yolov1"], "hidden": ()}), x
    )
    assert maps["coordinates"].shape == (2, 2, 2, 2, 4)
    assert convolutional["params"].keys() == {"backbone", "conv1", "conv2", "conv3"}
    _, without = shapes_of(
        create_model("yolov2", **{**TINY["yolov2"], "passthrough": None}, num_classes=3), x
    )
    assert without["params"].keys() == {"backbone", "conv1", "bn1", "conv2", "bn2", "conv3"}


def test_yolov1_drops_out_in_training_only():
    model, images = tiny("yolov1"), images_of(1, 64)
    variables = random_variables(model, images)

    @jax.jit
    def run(key):
        trained = model.apply(variables, images, train=True, rngs={"dropout": key})
        evaluated = model.apply(variables, images, train=False)
        return trained["confidence"], evaluated["confidence"]

    (trained, evaluated), (other, again) = (run(jax.random.key(seed)) for seed in (0, 1))
    assert (trained != other).any()
    np.testing.assert_array_equal(evaluated, again)


def test_the_pyramid_stands_before_the_map_the_largest_window_first():
    sides = (13, 9, 5, 1)

    @jax.jit
    def run(x):
        pooled = [max_pool(x, side, stride=1, padding=side // 2) for side in sides]
        return spatial_pyramid(x, (5, 13, 9)), pooled

    pyramid, pooled = jax.device_get(run(images_of(1, 16)))
    for part, expected in zip(np.split(pyramid, 4, axis=-1), pooled, strict=True):
        np.testing.assert_array_equal(part, expected)
