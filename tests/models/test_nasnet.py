"""NASNet-A: published sizes and costs, every map, what cells compute, what is dropped."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.models import create_model, input_size, summarize
from jaxvision.models.backbones import nasnet
from jaxvision.testing import check_op
from tests.marks import long_but
from tests.models.structure import check_shapes, size_of
from tests.models.training import check_training, train
from tests.models.variables import image_maker, random_variables, shapes_of
from tests.reference import models as reference
from tests.reference.ops import convolution, pooling

# The default tests have each of these kinds of checks, of other networks.
pytestmark = pytest.mark.slow

TINY = {"cells": 1, "filters": 4, "stem": 2, "num_classes": 3, "dropout": 0.0}
images_of = image_maker(19)


def tiny(**fields):
    return create_model("nasnet_a_mobile", **{**TINY, **fields})


def derived_size(cells, filters, stem):
    """Parameters without biases of convolutions, and two numbers a channel of each norm."""

    def separable(size, seen, given):
        first = seen * size**2 + seen * given + 2 * given
        return first + given * size**2 + given * given + 2 * given

    def cell(sizes, before, seen, given):
        """With separable convolutions of these sizes of the state before, and of others."""
        of_before, of_others = sizes
        total = seen * given + 2 * given
        total += sum(separable(size, before, given) for size in of_before)
        return total + sum(separable(size, given, given) for size in of_others)

    normal = functools.partial(cell, ((5, 3, 3), (5, 3)))
    reduction = functools.partial(cell, ((7, 7, 5), (5, 3)))
    total, quarter, half = 27 * stem + 2 * stem, filters // 4, filters // 2
    total += reduction(stem, stem, quarter)
    total += stem * half + 2 * half + reduction(half, 4 * quarter, half)
    # The channels of the last two maps; those of the older are fitted to each cell's.
    before, seen = 4 * quarter, 4 * half
    for size in range(3):
        given = filters * 2**size
        kinds = [(reduction, 4)] * (size > 0) + [(normal, 6)] * cells
        for kind, joined in kinds:
            total += before * given + 2 * given + kind(given, seen, given)
            before, seen = seen, joined * given
    return total + (seen + 1) * 1000


PUBLISHED = [
    ("nasnet_a_mobile", (4, 44, 32), 5_289_978, 564, (111, 56, 28, 14, 7)),
    ("nasnet_a_large", (6, 168, 96), 88_753_150, 23_800, (165, 83, 42, 21, 11)),
]


@pytest.mark.parametrize(
    ("name", "plan", "count", "millions", "sides"), long_but(PUBLISHED, [], PUBLISHED[:1])
)
def test_every_nasnet_has_its_published_size_and_cost(name, plan, count, millions, sides):
    # The paper's tables 2 and 3: 5.3 and 88.9 million parameters, 564 million and 23.8 billion
    # multiply-adds. With the 196,668 running statistics ours are 88.9 million too.
    summary = summarize(create_model(name), input_size(name))
    assert summary.params == derived_size(*plan) == count
    assert abs(summary.macs / 1e6 - millions) < 0.001 * millions
    _, filters, stem = plan
    widths = (stem, *(filters * n for n in (1, 6, 12, 24)))
    expected = zip(sides, widths, strict=True)
    maps = [(1, side, side, width) for side, width in expected]
    assert [summary.maps[f"c{i}"] for i in range(1, 6)] == maps
    assert summary.maps["pooled"] == (1, 24 * filters)


@pytest.mark.long
def test_the_derived_size_is_the_networks():
    _, variables = shapes_of(tiny(num_classes=1000, cells=2), images_of(1))
    assert size_of(variables["params"]) == derived_size(2, 4, 2)


@pytest.mark.long
@pytest.mark.parametrize(
    ("size", "sizes"),
    [
        ((19, 20), ((9, 9), (5, 5), (3, 3), (2, 2), (1, 1))),
        ((64, 97), ((31, 48), (16, 24), (8, 12), (4, 6), (2, 3))),
    ],
)
def test_every_map_in_its_shape(size, sizes):
    maps, _ = shapes_of(tiny(), images_of(2, *size), train=True)
    check_shapes(maps, 2, sizes, (2, 4, 24, 48, 96), pooled=96, logits=3)


def test_without_classes_there_is_no_classifier():
    model = tiny(aux=True, cells=0)
    maps, variables = shapes_of(model.clone(num_classes=None), images_of())
    assert maps.keys() == {"c1", "c2", "c3", "c4", "c5", "pooled"}
    assert not any(name.startswith(("fc", "aux")) for name in variables["params"])


def test_without_norms_all_convolutions_but_the_depthwise_ones_have_a_bias():
    _, variables = shapes_of(tiny(cells=0, norm=None), images_of())
    assert variables.keys() == {"params"}
    for name, layer in variables["params"].items():
        assert layer.keys() == ({"kernel"} if "depthwise" in name else {"kernel", "bias"}), name


@pytest.mark.long
@pytest.mark.parametrize("skip_reduction", [False, True])
def test_the_network_equals_the_reference(skip_reduction):
    def network(variables, images):
        params, statistics = variables["params"], variables["batch_stats"]

        def conv(x, name, **how):
            x = convolution.conv2d(x, params[name]["kernel"], **how)
            norm = f"{name}_bn"
            return reference.batch_norm(x, params[norm], statistics[norm], epsilon=1e-3)

        def pooled(pool, x, stride, **how):
            return pool(x, 3, stride=stride, padding=1, **how)

        average = functools.partial(pooled, pooling.avg_pool, count_include_pad=False)
        largest = functools.partial(pooled, pooling.max_pool)

        def cell(name, x, before, filters, combine):
            def separable(x, block, stride=1):
                for number, step in ((1, stride), (2, 1)):
                    x, layer = np.maximum(x, 0), f"{name}_block{block}_"
                    kernel = params[f"{layer}depthwise{number}"]["kernel"]
                    how = {"stride": step, "padding": len(kernel) // 2, "groups": x.shape[-1]}
                    x = conv(convolution.conv2d(x, kernel, **how), f"{layer}pointwise{number}")
                return x

            h = conv(np.maximum(x, 0), f"{name}_1x1")
            assert h.shape[-1] == filters
            if before is None:
                p = x
            elif before.shape[1:] == (*x.shape[1:3], filters):
                p = before
            elif before.shape[1:3] == x.shape[1:3]:
                p = conv(np.maximum(before, 0), f"{name}_previous")
            else:
                # Every other pixel of every other row; and of the rest, with zeros where it ends.
                between = np.zeros_like(before)
                between[:, :-1, :-1] = before[:, 1:, 1:]
                paths = (("path1", before), ("path2", between))
                halves = [
                    conv(np.maximum(y[:, ::2, ::2], 0), f"{name}_previous_{path}")
                    for path, y in paths
                ]
                p = np.concatenate(halves, axis=-1)
            return np.concatenate(combine(h, p, separable), axis=-1)

        def normal(h, p, separable):
            return (
                p,
                separable(h, "0_left") + separable(p, "0_right"),
                separable(p, "1_left") + separable(p, "1_right"),
                average(h, 1) + p,
                average(p, 1) + average(p, 1),
                separable(h, "4_left") + h,
            )

        def reduction(h, p, separable):
            first = separable(h, "0_left", 2) + separable(p, "0_right", 2)
            second = largest(h, 2) + separable(p, "1_right", 2)
            third = average(h, 2) + separable(p, "2_right", 2)
            return (
                second,
                third,
                second + average(first, 1),
                separable(first, "4_left") + largest(h, 2),
            )

        c1 = conv(images, "conv0", stride=2)
        c2 = cell("cell_stem_0", c1, None, 1, reduction)
        stem = cell("cell_stem_1", c2, c1, 2, reduction)
        c3 = cell("cell_0", stem, c2, 4, normal)
        reduced = cell("reduction_cell_0", c3, stem, 8, reduction)
        c4 = cell("cell_1", reduced, stem if skip_reduction else c3, 8, normal)
        last = cell("reduction_cell_1", c4, reduced, 16, reduction)
        c5 = cell("cell_2", last, reduced if skip_reduction else c4, 16, normal)
        features = np.maximum(c5, 0).mean(axis=(1, 2))
        logits = features @ params["fc"]["kernel"] + params["fc"]["bias"]
        maps = {"c1": c1, "c2": c2, "c3": c3, "c4": c4, "c5": c5}
        return {**maps, "pooled": features, "logits": logits}

    images, model = images_of(1, 20, 27), tiny(skip_reduction=skip_reduction)
    variables = random_variables(model, images)
    run = functools.partial(model.apply, train=False)
    check_op(run, network, variables, images, rtol=1e-4, atol=1e-4, transforms=("jit",))


def test_the_auxiliary_classifier_gives_logits_in_training_only():
    evaluated, trained = (
        shapes_of(tiny(aux=True, cells=0), images_of(2, 224), train=train)
        for train in (False, True)
    )
    assert jax.tree.map(jnp.shape, evaluated[1]) == jax.tree.map(jnp.shape, trained[1])
    assert "aux" not in evaluated[0]
    assert trained[0]["aux"].shape == (2, 3)
    # 5x5 means at a stride of 3, of 14x14 cells: the last convolution covers all of them.
    params = trained[1]["params"]
    assert params["aux_conv0"]["kernel"].shape == (1, 1, 32, 128)
    assert params["aux_conv1"]["kernel"].shape == (4, 4, 128, 768)


@pytest.mark.long
def test_an_auxiliary_classifier_lets_smaller_images_be_evaluated():
    _, variables = shapes_of(tiny(aux=True), images_of(1, 67))
    run = functools.partial(tiny(aux=True).apply, train=False)
    assert jax.eval_shape(run, variables, images_of(1, 19))["logits"].shape == (1, 3)


@pytest.mark.parametrize(
    ("fields", "size", "message"),
    [
        ({}, (18, 20), r"the height of the images is 18: this network takes 19\b"),
        ({}, (19, 8), r"the width of the images is 8: this network takes 19\b"),
        ({"aux": True}, (67, 66), r"the width of the images is 66: this network takes 67\b"),
        ({"filters": 6}, (19, 19), "filters is 6: give a multiple of 4"),
    ],
)
def test_what_does_not_fit_is_refused(fields, size, message):
    with pytest.raises(InputError, match=message):
        shapes_of(tiny(**fields), images_of(1, *size))


def test_steps_are_dropped_more_often_in_later_cells(monkeypatch):
    rates = []

    def record(x, rate, *, train):
        rates.append(rate)
        return x

    monkeypatch.setattr(nasnet, "drop_path", record)
    shapes_of(tiny(drop_path=0.7), images_of(), train=True)
    # Of 10 steps a cell, one or two do nothing, and are not dropped.
    kept = (9, 9, 8, 9, 8, 9, 8)
    expected = [0.1 * cell for cell, steps in enumerate(kept, start=1) for _ in range(steps)]
    np.testing.assert_allclose(rates, expected)


@pytest.mark.long
def test_dropped_steps_are_zero_in_training_only():
    # The last cell drops them all.
    model, images = tiny(drop_path=1.0), images_of()
    variables = random_variables(model, images)
    jax.eval_shape(lambda: model.apply(variables, images, train=False))  # Takes no key.
    maps, _ = jax.jit(functools.partial(train, model))(variables, images, jax.random.key(0))
    # What is left are p, p and h: the state itself, and what the third and fifth sums add.
    p, _, third, _, fifth = (maps["c5"][..., 16 * n : 16 * (n + 1)] for n in (0, 1, 3, 4, 5))
    np.testing.assert_array_equal(third, p)
    assert np.abs(p).max() > 0.1
    assert np.abs(fifth).max() > 0.1
    assert not np.any(maps["c5"][..., 16:48])
    assert not np.any(maps["c5"][..., 64:80])


@pytest.mark.long
def test_cells_of_one_step_learn(monkeypatch):
    # Whole cells have five, with larger kernels, and compile ten times as long.
    normal = nasnet.Cell((((3, 0), (nasnet.IDENTITY, 1)),), joined=(1, 2))
    reduction = nasnet.Cell((((nasnet.MAXIMUM, 0), (3, 1)),), joined=(2,))
    monkeypatch.setattr(nasnet, "NORMAL", normal)
    monkeypatch.setattr(nasnet, "REDUCTION", reduction)
    model = tiny(dtype=jnp.bfloat16, dropout=0.5, drop_path=0.5)
    shapes = {"c1": (9, 11, 2), "c2": (5, 6, 1), "c3": (3, 3, 8), "c4": (2, 2, 16)}
    shapes |= {"c5": (1, 1, 32), "pooled": (32,), "logits": (3,)}
    random = shapes.keys() - {"c1"}
    check_training(model, images_of(4, 19, 23), shapes, random=random)


@pytest.mark.long
def test_whole_cells_learn():
    model = tiny(dtype=jnp.bfloat16, aux=True, dropout=0.5, drop_path=0.5)
    shapes = {"c1": (33, 34, 2), "c2": (17, 17, 4), "c3": (9, 9, 24), "c4": (5, 5, 48)}
    shapes |= {"c5": (3, 3, 96), "pooled": (96,), "logits": (3,), "aux": (3,)}
    random = shapes.keys() - {"c1"}
    check_training(model, images_of(2, 67, 70), shapes, random=random)
