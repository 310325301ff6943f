"""R-CNNs: published sizes, shapes of outputs, forms of the network, spellings of keys."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.interop import KeyRules, named_alike, to_state_dict
from jaxvision.layers import batch_norm, frozen_batch_norm
from jaxvision.models import create_model, feature_info
from jaxvision.models.backbones.mobilenet_v3 import MOBILENETS_V3
from jaxvision.models.backbones.vgg import VGG, Stage
from jaxvision.models.detection.rcnn_heads import KeypointHead, MaskHead, MLPHead
from tests.marks import long_but
from tests.models.structure import size_of
from tests.models.variables import random_values, random_variables, shapes_of

BACKBONE = {"name": "resnet18", "blocks": (1, 1, 1, 1), "widths": (4, 4, 6, 8)}
PYRAMID = {
    "backbone": BACKBONE,
    "features": 8,
    "box_head": {"name": "mlp", "hidden": 12},
    "num_classes": 3,
}
ONE_MAP = {
    "backbone": functools.partial(VGG, stages=(Stage(4, 1), Stage(4, 1), Stage(6, 1))),
    "levels": ("c2",),
    "features": None,
    "anchor_sizes": ((16, 32),),
    "pooling": "roi_pool",
    "norm": None,
}
MASKS = functools.partial(MaskHead, depth=1, features=6)
POINTS = functools.partial(KeypointHead, outputs=5, depth=1, features=6)
FORMS = {
    "pyramid": {},
    "one map and RoIPool": ONE_MAP,
    "one box for all classes": {"class_agnostic": True, "aligned": True},
    "masks and keypoints": {"mask_head": MASKS, "keypoint_head": POINTS},
    "proposals alone": {"box_head": None},
}


def tiny(**fields):
    return create_model("faster_rcnn", **{**PYRAMID, **fields})


def images_of(batch=2, height=64, width=96):
    return np.random.default_rng(0).normal(size=(batch, height, width, 3)).astype(np.float32)


# Torchvision's numbers: published, and with batch norms. The others are by hand: VGG-16's trunk has
# 14,714,688, and the RPN's convolutions 512 (9 512 + 1) and (2 9 / 2 + 4 9) (512 + 1); the head has
# 4,096 (25,088 + 4,096 + 2), and the last layers (91 + 364) (4,096 + 1). Fast R-CNN has no RPN.
SIZES = {
    "fasterrcnn_resnet50_fpn": (41_755_286, 41_808_406),
    "fasterrcnn_resnet50_fpn_v2": (43_712_278, 43_712_278),
    "fasterrcnn_mobilenet_v3_large_fpn": (19_386_354, 19_410_754),
    "fasterrcnn_mobilenet_v3_large_320_fpn": (19_386_354, 19_410_754),
    "maskrcnn_resnet50_fpn": (44_401_393, 44_454_513),
    "maskrcnn_resnet50_fpn_v2": (46_359_409, 46_359_409),
    "keypointrcnn_resnet50_fpn": (59_137_258, 59_190_378),
    "fasterrcnn_vgg16": (14_714_688 + 2_359_808 + 45 * 513 + 4096 * 29_186 + 455 * 4097, None),
    "fastrcnn_vgg16": (14_714_688 + 4096 * 29_186 + 455 * 4097, None),
}


@pytest.mark.parametrize("name", long_but(SIZES, [], ["maskrcnn_resnet50_fpn_v2"]))
def test_the_size_of_published_networks(name):
    published, plain = SIZES[name]
    images = jax.ShapeDtypeStruct((1, 64, 96, 3), jnp.float32)
    assert size_of(shapes_of(create_model(name), images)[1]["params"]) == published
    if plain is not None:
        model = create_model(name, norm=batch_norm)
        assert size_of(shapes_of(model, images)[1]["params"]) == plain


@pytest.mark.parametrize("form", FORMS)
def test_the_outputs_of_each_form(form):
    maps, _ = shapes_of(tiny(**FORMS[form]), images_of())
    shapes = {key: x.shape[1:] for key, x in maps.items()}
    found = {"proposals": (4,), "proposal_scores": (), "proposal_mask": ()}
    if form == "one map and RoIPool":
        rows, anchors = [(16, 24)], 6
    else:
        rows, anchors = [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)], 3
    count = min(1000, sum(min(1000, h * w * anchors) for h, w in rows))
    expected = {key: (count, *axes) for key, axes in found.items()}
    for number, row in enumerate(rows):
        expected[f"objectness{number}"] = (*row, anchors)
        expected[f"rpn_deltas{number}"] = (*row, anchors, 4)
    if form != "proposals alone":
        deltas = (4,) if "all classes" in form else (4, 4)
        expected |= {"class_logits": (count, 4), "box_regression": (count, *deltas)}
        expected |= {"boxes": (100, 4), "scores": (100,), "labels": (100,), "valid": (100,)}
    if "masks" in form:
        expected["mask_logits"] = (100, 28, 28, 3)
        expected["keypoint_logits"] = (100, 56, 56, 5)
    assert shapes == expected


def test_masks_and_keypoints_are_those_of_the_boxes_that_are_given():
    """Boxes of two images: each has the features of its own image."""
    model, images = tiny(**FORMS["masks and keypoints"]), images_of()
    variables = random_variables(model, images)
    boxes = np.float32([[[4, 6, 40, 50], [0, 0, 9, 9]], [[30, 20, 90, 60], [8, 8, 60, 60]]])

    @functools.partial(jax.jit, static_argnames="train")
    def run(images, boxes, train):
        def propose(rpn):
            return {"proposals": boxes}

        def detect(scores, deltas, proposals, image_size):
            assert image_size == (64, 96)
            return {"boxes": proposals["proposals"][:, ::-1]}

        how = {"propose": propose, "detect": detect}
        result = model.apply(variables, images, train=train, mutable=["batch_stats"], **how)
        return result[0]

    both = jax.device_get(run(images, boxes, train=False))
    single = jax.device_get(run(images[1:], boxes[1:], train=False))
    for name in ("class_logits", "box_regression", "mask_logits", "keypoint_logits"):
        np.testing.assert_allclose(both[name][1:], single[name], rtol=1e-4, atol=1e-5)
        assert np.abs(both[name][0] - both[name][1]).max() > 1e-3


def test_boxes_are_pooled_on_the_map_of_their_size():
    """A change of one map changes the boxes of its size alone."""
    from jaxvision.models.detection.faster_rcnn import FasterRCNN

    model = FasterRCNN()
    sides = (20, 200, 300, 460)
    boxes = jnp.float32([[[4, 4, 4 + side, 4 + side] for side in sides]])
    maps = [jnp.zeros((1, 512 // n, 512 // n, 2)) for n in (4, 8, 16, 32)]

    @jax.jit
    def pooled(maps):
        return model._features(maps, boxes, (512, 512), 7)

    for level, x in enumerate(maps):
        changed = [*maps[:level], x + 1, *maps[level + 1 :]]
        assert np.asarray(pooled(changed)).any(axis=(2, 3, 4))[0].tolist() == [
            n == level for n in range(4)
        ]


@pytest.mark.parametrize("fields", [{}, ONE_MAP])
def test_without_anchors_there_is_no_rpn_and_the_image_is_the_proposal(fields):
    images = images_of()
    whole, part = tiny(**fields), tiny(**{**fields, "anchor_sizes": None})
    variables = random_variables(whole, images)
    params = {k: x for k, x in variables["params"].items() if not k.startswith("rpn")}
    assert len(params) < len(variables["params"])
    shapes = jax.tree.map(lambda x: x.shape, params)
    assert shapes == jax.tree.map(lambda x: x.shape, shapes_of(part, images)[1]["params"])

    def propose(rpn):
        box = jnp.float32([0, 0, rpn.image_size[1], rpn.image_size[0]])
        return {"proposals": jnp.tile(box, (2, 1, 1)), "proposal_mask": jnp.ones((2, 1), bool)}

    run = functools.partial(whole.apply, train=False, propose=propose)
    wanted = jax.jit(run)(variables, images)
    found = jax.jit(functools.partial(part.apply, train=False))(
        {**variables, "params": params}, images
    )
    assert not any(name.startswith(("objectness", "rpn")) for name in found)
    for name, x in found.items():
        np.testing.assert_allclose(x, wanted[name], rtol=1e-5, atol=1e-5, err_msg=name)


def test_mobilenets_maps_of_one_stride():
    model = MOBILENETS_V3["mobilenet_v3_large"](layout="fpn", num_classes=None)
    assert feature_info(model)[-2:] == (("c5", 160, 32), ("c6", 960, 32))
    variables = shapes_of(model, images_of())[1]
    assert "0_0" in variables["params"]
    assert "16_0" in variables["params"]


def test_a_stage_of_a_resnet_alone():
    whole = create_model(**BACKBONE, num_classes=None)
    images = images_of()
    variables = random_variables(whole, images)
    maps = jax.jit(functools.partial(whole.apply, train=False))(variables, images)
    first, last = (create_model(**BACKBONE, num_classes=None, parts=p) for p in ((0, 3), (4, 4)))
    apply = jax.jit(lambda x: first.apply(variables, x, train=False))
    early = apply(images)
    assert set(early) == {"c1", "c2", "c3", "c4", "pooled"}
    late = jax.jit(lambda x: last.apply(variables, x, train=False))(early["c4"])
    np.testing.assert_allclose(late["c5"], maps["c5"], rtol=1e-5, atol=1e-5)
    with pytest.raises(InputError, match="parts is "):
        shapes_of(create_model(**BACKBONE, parts=(3, 1)), images)


def test_detectors_on_one_map_take_the_weights_of_a_classifier():
    vgg = {"stages": (Stage(4, 1),) * 3, "hidden": 8}
    model = tiny(
        **{**ONE_MAP, "backbone": functools.partial(VGG, **vgg)},
        box_head=functools.partial(MLPHead, hidden=8),
    )
    other = random_values(shapes_of(create_model("vgg16", **vgg), images_of())[1])
    rules = KeyRules(
        [
            ("classifier.0", "roi_heads.box_head.fc6"),
            ("classifier.3", "roi_heads.box_head.fc7"),
            ("classifier.6", ""),
            ("features", "backbone.features"),
        ]
    )
    own = shapes_of(model, images_of())[1]
    found, left = named_alike(to_state_dict(other), own, key_map=rules)
    assert not left
    kernel = own["params"]["roi_heads_box_head"]["fc6"]["kernel"]
    assert found["params"]["roi_heads_box_head"]["fc6"]["kernel"].shape == kernel.shape


def test_keys_are_torchvisions():
    state = to_state_dict(
        random_values(shapes_of(tiny(**FORMS["masks and keypoints"]), images_of())[1])
    )
    expected = {
        "backbone.body.layer1.0.conv1.weight",
        "backbone.fpn.inner_blocks.0.0.weight",
        "rpn.head.conv.0.0.weight",
        "rpn.head.cls_logits.bias",
        "rpn.head.bbox_pred.weight",
        "roi_heads.box_head.fc6.weight",
        "roi_heads.box_predictor.cls_score.weight",
        "roi_heads.box_predictor.bbox_pred.bias",
        "roi_heads.mask_head.0.0.weight",
        "roi_heads.mask_predictor.conv5_mask.weight",
        "roi_heads.mask_predictor.mask_fcn_logits.weight",
        "roi_heads.keypoint_head.0.weight",
        "roi_heads.keypoint_predictor.kps_score_lowres.weight",
    }
    assert expected <= state.keys()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"anchor_sizes": ((32,),) * 4}, "anchor_sizes has 4 entries, and there are 5 maps"),
        ({"anchor_sizes": ((32,),) * 4 + ((32, 64),)}, "give as many sizes for each map"),
        ({"pooling": "roi_pool"}, "takes one map, but there are 4"),
        ({"pooling": "crop"}, "pooling is 'crop'"),
        ({"levels": ("c2", "c9")}, "no map 'c9'"),
        ({"box_head": "cnn"}, "unknown box_head 'cnn'"),
        ({"box_head": {"hidden": 3}}, "the box_head of faster_rcnn has no name"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(fields, message):
    with pytest.raises(InputError, match=message) as raised:
        shapes_of(tiny(**fields), images_of(1))
    assert "\n" not in str(raised.value)


def test_norms_of_the_published_networks():
    assert create_model("fasterrcnn_resnet50_fpn").norm.keywords == {"epsilon": 0.0}
    assert create_model("fasterrcnn_mobilenet_v3_large_fpn").norm is frozen_batch_norm
    assert create_model("maskrcnn_resnet50_fpn_v2").head_norm is batch_norm
