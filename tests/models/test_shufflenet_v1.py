"""ShuffleNet: published widths and costs, every map, what units compute."""

import functools

import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.models import create_model, summarize
from jaxvision.testing import check_op
from tests.marks import long_but
from tests.models.structure import (
    act_channels,
    check_shapes,
    check_without_classes,
    check_without_norm,
)
from tests.models.variables import image_maker, random_variables, shapes_of
from tests.reference import models as reference
from tests.reference.ops import convolution, pooling, rearrange

# The default tests have each of these kinds of checks, of other networks.
pytestmark = pytest.mark.slow

TINY = {"groups": 2, "blocks": (2,), "widths": (4, 16), "num_classes": 3}
images_of = image_maker(17)


def tiny(**fields):
    return create_model("shufflenet_v1_g2", **{**TINY, **fields})


# Groups, stage 2's channels, and the parameters and the million multiply-adds of the paper's table
# 1; that has no parameters, which are derived below.
ROWS = [
    (1, 144, 1_531_936, 143),
    (2, 200, 1_733_848, 140),
    (3, 240, 1_865_728, 137),
    (4, 272, 1_968_344, 133),
    (8, 384, 2_434_768, 137),
]


@pytest.mark.parametrize(("groups", "width", "count", "millions"), long_but(ROWS, [], ROWS[2:3]))
def test_every_shufflenet_has_its_published_widths_and_cost(groups, width, count, millions):
    # Kernels, and two numbers a channel of each norm; only the very first 1x1 has no groups.
    derived, seen = 24 * (27 + 2), 24
    for stage, units in enumerate((4, 8, 4)):
        given = width * 2**stage
        inner = given // 4
        for unit in range(units):
            first = 1 if (stage, unit) == (0, 0) else groups
            added = given - seen if unit == 0 else given
            derived += inner * (seen // first + 2 + 9 + 2) + added * (inner // groups + 2)
            seen = given
    derived += (seen + 1) * 1000
    summary = summarize(create_model(f"shufflenet_v1_g{groups}"), (224, 224, 3))
    assert summary.params == derived == count
    widths = [summary.maps[f"c{i}"][-1] for i in range(1, 6)]
    assert widths == [24, 24, width, 2 * width, 4 * width]
    # The paper does not count the classifier.
    assert abs(summary.macs - 4 * width * 1000 - millions * 1e6) < 0.6e6


# The paper's table 2 has these scales; not all widths times that can be shared out.
WIDTHS = [
    (3, 0.5, (12, 120, 240, 480)),
    (3, 0.25, (6, 60, 120, 240)),
    (8, 0.5, (16, 192, 384, 768)),
    (8, 0.25, (8, 96, 192, 384)),
    (2, 0.25, (6, 48, 104, 200)),
]


@pytest.mark.parametrize(("groups", "width", "widths"), long_but(WIDTHS, WIDTHS[4:]))
def test_scaled_widths_are_what_groups_can_share(groups, width, widths):
    fields = {"blocks": (1, 1, 1), "width": width, "num_classes": None}
    maps, _ = shapes_of(create_model(f"shufflenet_v1_g{groups}", **fields), images_of(1, 16))
    assert tuple(maps[key].shape[-1] for key in ("c1", "c3", "c4", "c5")) == widths


@pytest.mark.long
@pytest.mark.parametrize(
    ("size", "sizes"),
    [
        ((224, 192), ((112, 96), (56, 48), (28, 24))),
        ((65, 97), ((33, 49), (17, 25), (9, 13))),
        ((1, 1), ((1, 1),) * 3),
    ],
)
def test_every_map_in_its_shape(size, sizes):
    maps, _ = shapes_of(tiny(), images_of(2, *size), train=True)
    check_shapes(maps, 2, sizes, (4, 4, 16), pooled=16, logits=3)


def test_without_classes_there_is_no_classifier_and_without_norms_there_are_biases():
    check_without_classes(tiny(norm=None), images_of(), {"c1", "c2", "c3", "pooled"}, "fc")
    check_without_norm(tiny(num_classes=None), images_of())


def test_no_act_follows_a_depthwise_convolution():
    # The stem's; in each unit the first convolution's, and the unit's own.
    assert act_channels(tiny(), images_of()) == [4, 4, 16, 4, 16]


def test_the_network_equals_the_reference():
    fields = {"widths": (4, 16, 32), "blocks": (2, 1)}

    def network(variables, images):
        params, statistics = variables["params"], variables["batch_stats"]

        def layer(x, name, place=1, **how):
            norm = f"{name}_bn{place}"
            x = convolution.conv2d(x, params[f"{name}_conv{place}"]["kernel"], **how)
            return reference.batch_norm(x, params[norm], statistics[norm])

        def unit(x, name, *, stride, first_groups=2):
            y = np.maximum(layer(x, name, 1, groups=first_groups), 0)
            y = rearrange.channel_shuffle(y, 2)
            y = layer(y, name, 2, stride=stride, padding=1, groups=y.shape[-1])
            y = layer(y, name, 3, groups=2)
            if stride == 1:
                return np.maximum(x + y, 0)
            x = pooling.avg_pool(x, 3, stride=2, padding=1)
            return np.maximum(np.concatenate([x, y], axis=-1), 0)

        c1 = np.maximum(layer(images, "stem", stride=2, padding=1), 0)
        c2 = pooling.max_pool(c1, 3, stride=2, padding=1)
        c3 = unit(unit(c2, "stage2_0", stride=2, first_groups=1), "stage2_1", stride=1)
        c4 = unit(c3, "stage3_0", stride=2)
        pooled = c4.mean(axis=(1, 2))
        logits = pooled @ params["fc"]["kernel"] + params["fc"]["bias"]
        return {"c1": c1, "c2": c2, "c3": c3, "c4": c4, "pooled": pooled, "logits": logits}

    images, model = images_of(1, 17, 22), tiny(**fields)
    variables = random_variables(model, images)
    run = functools.partial(model.apply, train=False)
    check_op(run, network, variables, images, rtol=1e-4, atol=1e-5, transforms=("jit",))


@pytest.mark.parametrize("widths", [(4,), (4, 16, 32), (16, 16)])
def test_widths_that_do_not_fit(widths):
    with pytest.raises(InputError, match="increasing ones for the 1 stages"):
        shapes_of(tiny(widths=widths), images_of())
