"""DeepLabv3: published sizes, maps of each stride, the pyramid by hand, torchvision's logits."""

import jax
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.interop import KeyRules, named_alike, to_state_dict
from jaxvision.models import create_model
from jaxvision.models.backbones import darknet
from tests.marks import long_but
from tests.models.parity import check_maps, torchvision_network
from tests.models.structure import size_of
from tests.models.training import check_training_step
from tests.models.variables import image_maker, random_variables, shapes_of

BACKBONE = {
    "name": "plain_darknet",
    "stages": (darknet.Stage(1, ((8, 3),)), darknet.Stage(2, ((16, 3),))),
}
RESNET = {"name": "resnet18", "blocks": (1, 1, 1, 1), "widths": (4, 4, 6, 8)}
images_of = image_maker(32)


def tiny(**fields):
    usual = {"backbone": BACKBONE, "level": 2, "rates": (1, 2), "width": 8, "aux": True}
    without = {"dropout": 0.0, "dropout_aux": 0.0}
    return create_model("deeplabv3_resnet50", **{"num_classes": 3, **usual, **without, **fields})


PUBLISHED = [
    ("deeplabv3_resnet50", True, 42_004_074),  # torchvision's numbers, with 21 classes
    ("deeplabv3_resnet50", False, 39_638_869),
    ("deeplabv3_resnet101", True, 60_996_202),
    ("deeplabv3_mobilenet_v3_large", True, 11_029_328),
]
OF_RESNET = {
    "c1": (33, 49, 64),
    "c2": (17, 25, 256),
    "c3": (9, 13, 512),
    "c4": (9, 13, 1024),
    "c5": (9, 13, 2048),
}
OF_MOBILENET = {"c1": (33, 49, 16), "c2": (17, 25, 24), "c3": (9, 13, 40), "c4": (5, 7, 960)}
PYRAMID = [f"classifier_0_convs_{branch}_{place}" for branch in range(4) for place in (0, 1)]
PYRAMID += ["classifier_0_convs_4_1", "classifier_0_convs_4_2"]
PYRAMID += ["classifier_0_project_0", "classifier_0_project_1"]


@pytest.mark.parametrize(("name", "aux", "published"), long_but(PUBLISHED, [], PUBLISHED[3:]))
def test_the_size_and_the_maps_of_torchvisions(name, aux, published):
    maps, variables = shapes_of(create_model(name, aux=aux), images_of(1, 65, 97))
    assert size_of(variables["params"]) == published
    assert {key for key in variables["params"] if key != "backbone"} == {
        *PYRAMID,
        *(f"classifier_{place}" for place in (1, 2, 4)),
        *(f"aux_classifier_{place}" for place in (0, 1, 4) if aux),
    }
    assert {key: x.shape[1:] for key, x in maps.items()} == {
        **(OF_MOBILENET if "mobilenet" in name else OF_RESNET),
        **dict.fromkeys(("logits", *["aux"] * aux), (65, 97, 21)),
    }


@pytest.mark.parametrize(
    ("dilated", "side"), [((False, True, True), 5), ((False, False, True), 3), ((False,) * 3, 2)]
)
def test_a_backbone_may_have_any_stride(dilated, side):
    backbone = {**RESNET, "replace_stride_with_dilation": dilated}
    maps, _ = shapes_of(tiny(backbone=backbone, level=5), images_of(1, 33, 40))
    assert maps["c5"].shape == (1, side, side, 8)
    assert maps["logits"].shape == maps["aux"].shape == (1, 33, 40, 3)


def test_without_classes_there_is_no_head():
    maps, variables = shapes_of(tiny(num_classes=None), images_of())
    assert maps.keys() == {"c1", "c2"}
    assert variables["params"].keys() == {"backbone"}


def test_heads_have_a_norm_of_their_own():
    _, variables = shapes_of(tiny(head_norm=None), images_of())
    assert variables["batch_stats"].keys() == {"backbone"}
    assert variables["params"]["classifier_0_project_0"].keys() == {"kernel", "bias"}
    _, variables = shapes_of(tiny(norm=None), images_of())
    assert "backbone" not in variables["batch_stats"]
    assert variables["params"]["classifier_0_project_0"].keys() == {"kernel"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"level": 5}, "unknown map of the backbone 'c5'"),
        ({"level": 1}, "unknown map of the backbone 'c0'"),
        ({"rates": (6, 0)}, "rates is 0: give at least 1"),
    ],
)
def test_what_does_not_fit_is_an_error_that_names_it(fields, message):
    with pytest.raises(InputError, match=message):
        shapes_of(tiny(**fields), images_of())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "rules"),
    [("resnet50", ()), ("mobilenet_v3_large", [("features", "backbone")])],
)
def test_a_classifiers_weights_are_those_of_the_backbone(name, rules):
    _, own = shapes_of(create_model(f"deeplabv3_{name}"), images_of(1, 64))
    classifier = random_variables(create_model(name, num_classes=3), images_of(1, 64))
    prefix = "" if rules else "backbone."
    state = {prefix + key: x for key, x in to_state_dict(classifier).items()}
    found, left = named_alike(state, own, key_map=KeyRules(rules) if rules else None)
    backbone = {collection: {"backbone": x["backbone"]} for collection, x in own.items()}
    assert jax.tree.map(np.shape, found) == jax.tree.map(np.shape, backbone)
    assert all(key.removeprefix(prefix).startswith(("fc", "classifier")) for key in left)


def slow_pyramid(x, params, rates):
    """Loops over pixels and taps, in float64, without norms."""

    def layer(name, pixel):
        weights = params[name]
        return np.maximum(pixel @ np.float64(weights["kernel"][0, 0]) + weights["bias"], 0)

    height, width, _ = x.shape
    pooled = layer(f"classifier_0_convs_{len(rates) + 1}_1", x.mean((0, 1)))
    result = {}
    for row, column in np.ndindex(height, width):
        branches = [layer("classifier_0_convs_0_0", x[row, column])]
        for branch, rate in enumerate(rates, start=1):
            weights = params[f"classifier_0_convs_{branch}_0"]
            total = np.float64(weights["bias"])
            for down, right in np.ndindex(3, 3):
                i, j = row + rate * (down - 1), column + rate * (right - 1)
                if 0 <= i < height and 0 <= j < width:
                    total = total + x[i, j] @ np.float64(weights["kernel"][down, right])
            branches.append(np.maximum(total, 0))
        whole = np.concatenate([*branches, pooled])
        result[row, column] = layer("classifier_0_project_0", whole)
    return np.array([[result[i, j] for j in range(width)] for i in range(height)])


def test_the_pyramid_equals_a_slow_one():
    """Of a map of 6 x 7 cells, over whose border the taps with the larger rate reach."""
    rates, images = (1, 4), images_of(1, 24, 28)
    model = tiny(rates=rates, head_norm=None, aux=False)
    variables = random_variables(model, images)

    @jax.jit
    def run(variables, images):
        maps, state = model.apply(
            variables, images, train=False, capture_intermediates=lambda m, _: True
        )
        return maps["c2"], state["intermediates"]["classifier_0_project_0"]["__call__"][0]

    c2, projected = jax.device_get(run(variables, images))
    expected = slow_pyramid(np.float64(c2[0]), variables["params"], rates)
    assert expected.std(axis=(0, 1)).max() > 0.01
    np.testing.assert_allclose(np.maximum(projected[0], 0), expected, rtol=1e-4, atol=1e-5)


OF_TORCHVISION = [
    "deeplabv3_resnet50",
    "deeplabv3_mobilenet_v3_large",
    pytest.param("deeplabv3_resnet101", marks=pytest.mark.long),
]


def pair(name, **fields):
    """(torch, torchvision's network, ours): with the second head, for 5 classes."""
    how = {"weights": None, "weights_backbone": None, "aux_loss": True, "num_classes": 5}
    torch, theirs = torchvision_network(name, **how)
    return torch, theirs, create_model(name, num_classes=5, aux=True, **fields)


@pytest.mark.parity
@pytest.mark.parametrize("name", OF_TORCHVISION)
def test_logits_equal_torchvisions(name):
    check_maps(*pair(name), images_of(2, 65, 97), {"logits": "out", "aux": "aux"})


@pytest.mark.parity
@pytest.mark.long
@pytest.mark.parametrize("name", OF_TORCHVISION[:2])
def test_a_step_of_training_equals_torchvisions(name):
    names = {"logits": "out", "aux": "aux"}
    networks = pair(name, dropout=0.0, dropout_aux=0.0)
    check_training_step(*networks, images_of(4, 65, 97), names)
