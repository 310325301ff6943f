"""Pre-activation ResNets: published sizes, every map, what identities keep, dropout."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.models import create_model
from jaxvision.testing import check_op
from tests.marks import long_but
from tests.models.structure import check_shapes, check_without_classes, check_without_norm, size_of
from tests.models.training import train
from tests.models.variables import image_maker, random_variables, shapes_of
from tests.reference import models as reference

# The default tests have each of these kinds of checks, of other networks.
pytestmark = pytest.mark.slow

TINY = {"blocks": (2, 2), "widths": (4, 6), "stem": 4, "num_classes": 3}
every_block = pytest.mark.parametrize("bottleneck", [False, True], ids=["basic", "bottleneck"])
images_of = image_maker(9)


def tiny(**fields):
    return create_model("preact_resnet110", **{**TINY, **fields})


def derived_sizes(model):
    """The parameters of (convolutions and the classifier, norms), layer by layer."""
    channels = model.stem
    weights, norms = 3 * (49 if model.large_images else 9) * channels, 2 * channels
    for blocks, width in zip(model.blocks, model.widths, strict=True):
        for block in range(blocks):
            if block > 0:
                norms += 2 * channels
            if model.bottleneck:
                features = 4 * width
                weights += channels * width + 9 * width**2 + width * features
                norms += 2 * (2 * width)
            else:
                features = width
                weights += 9 * channels * width + 9 * width**2
                norms += 2 * width
            if channels != features:
                weights += channels * features
            channels = features
        norms += 2 * channels
    return weights + (channels + 1) * model.num_classes, norms


SIZES = {
    "preact_resnet110": (1_730_522, 1.7),
    "preact_resnet164": (1_703_258, 1.7),
    "preact_resnet200": (64_666_152, 64.7),
    "preact_resnet1001": (10_327_706, 10.3),
    "wrn_16_8": (10_961_370, 11.0),
    "wrn_28_10": (36_479_194, 36.5),
}


@pytest.mark.parametrize("name", long_but(SIZES, ["wrn_16_8"], ["preact_resnet110"]))
def test_every_network_has_its_published_size(name):
    model, (count, millions) = create_model(name), SIZES[name]
    params = shapes_of(model, images_of(1, 32))[1]["params"]
    assert size_of(params) == sum(derived_sizes(model)) == count
    assert round(count / 1e6, 1) == millions
    # The layers with weights are those of the name; for wide networks these are all convolutions.
    left_out = "fc" if name.startswith("wrn") else "downsample"
    layers = [key for key, x in params.items() if "kernel" in x and left_out not in key]
    assert len(layers) == int(re.search(r"\d+", name)[0])


def test_the_paper_counts_the_1001_layers_without_norms():
    # Its table 4 has 10.2 million.
    weights, _ = derived_sizes(create_model("preact_resnet1001"))
    assert round(weights / 1e6, 1) == 10.2


SHAPES = [
    ((32, 24), ((32, 24), (32, 24), (16, 12), (8, 6))),
    ((9, 33), ((9, 33), (9, 33), (5, 17), (3, 9))),
    ((1, 1), ((1, 1),) * 4),
]
WIDTHS = [("preact_resnet164", (16, 64, 128, 256)), ("wrn_16_8", (16, 128, 256, 512))]


@pytest.mark.parametrize(("size", "sizes"), long_but(SHAPES, SHAPES[1:2]))
@pytest.mark.parametrize(("name", "widths"), long_but(WIDTHS, WIDTHS[:1]))
def test_every_map_in_its_shape(name, widths, size, sizes):
    model = create_model(name, blocks=(2, 1, 1), num_classes=7)
    maps, _ = shapes_of(model, images_of(2, *size), train=True)
    check_shapes(maps, 2, sizes, widths, pooled=widths[-1], logits=7)


OF_LARGE_IMAGES = [
    ((224, 192), ((112, 96), (56, 48), (28, 24), (14, 12), (7, 6))),
    ((65, 97), ((33, 49), (17, 25), (9, 13), (5, 7), (3, 4))),
]


@pytest.mark.parametrize(("size", "sizes"), long_but(OF_LARGE_IMAGES, OF_LARGE_IMAGES[1:]))
def test_every_map_of_large_images_in_its_shape(size, sizes):
    model = create_model("preact_resnet200", blocks=(1, 1, 2, 1), num_classes=7)
    maps, _ = shapes_of(model, images_of(2, *size), train=True)
    check_shapes(maps, 2, sizes, (64, 256, 512, 1024, 2048), pooled=2048, logits=7)


def test_without_classes_there_is_no_classifier_and_without_norms_there_are_biases():
    check_without_classes(tiny(), images_of(), {"c1", "c2", "c3", "pooled"}, "fc")
    check_without_norm(tiny(), images_of())


def reference_of(variables, images, *, blocks, bottleneck):
    """The maps: in each stage its first block's shortcut, and all that blocks add to it."""
    params, statistics = variables["params"], variables["batch_stats"]

    def conv(x, name, stride=1):
        kernel = params[name]["kernel"]
        return reference.conv(x, kernel, stride=stride, padding=len(kernel) // 2)

    def norm_act(x, name):
        return np.maximum(reference.batch_norm(x, params[name], statistics[name]), 0)

    x = norm_act(conv(images, "conv1"), "bn1")
    maps = {"c1": x}
    for stage, count in enumerate(blocks, start=1):
        for block in range(count):
            name, stride = f"layer{stage}_{block}", 2 if stage > 1 and block == 0 else 1
            y = conv(norm_act(x, f"{name}_bn1") if block > 0 else x, f"{name}_conv1", stride)
            for number in (2, 3) if bottleneck else (2,):
                y = conv(norm_act(y, f"{name}_bn{number}"), f"{name}_conv{number}")
            x = (conv(x, f"{name}_downsample", stride) if y.shape != x.shape else x) + y
        x = norm_act(x, f"layer{stage}_bn")
        maps[f"c{stage + 1}"] = x
    pooled = x.mean(axis=(1, 2))
    logits = pooled @ params["fc"]["kernel"] + params["fc"]["bias"]
    return {**maps, "pooled": pooled, "logits": logits}


@every_block
def test_the_network_equals_the_reference(bottleneck):
    model, images = tiny(bottleneck=bottleneck), images_of()
    check_op(
        functools.partial(model.apply, train=False),
        functools.partial(reference_of, blocks=TINY["blocks"], bottleneck=bottleneck),
        random_variables(model, images),
        images,
        rtol=1e-4,
        atol=1e-5,
        transforms=("jit",),
    )


def first_stage(model, variables, images, last, constant=None):
    """x_0 > 0 -> (c2, x_L, the sum of F) of the blocks of the first stage, which begin with x_0.

    Args:
      model: of a stem with a norm, whose result x_0 replaces.
      variables: of the model.
      images: of the batch and the size of x_0.
      last: the layer that ends each branch.
      constant: a number that branches give instead of what they compute, or None.
    """

    def run(start):
        branches, ends = [], [None]

        def intercept(call, args, options, context):
            name = context.module.name or ""
            if name == "bn1":
                return start
            if name == "layer1_bn":
                ends[0] = args[0]
            given = call(*args, **options)
            if re.fullmatch(rf"layer1_\d_{last}", name):
                given = given if constant is None else jnp.full_like(given, constant)
                branches.append(given)
            return given

        with nn.intercept_methods(intercept):
            maps = model.apply(variables, images, train=False)
        return maps["c2"], ends[0], sum(branches)

    return jax.jit(run)


def positive(*shape):
    return np.random.default_rng(1).uniform(0.01, 1, shape).astype(np.float32)


ONE_STAGE = {"blocks": (4,), "widths": (8,), "stem": 8}


def test_a_stage_adds_up_and_hands_the_gradient_to_each_block():
    # The paper's equations 4 and 5: x_L = x_0 + sum F, and dE/dx_0 = dE/dx_L (1 + d/dx_0 sum F).
    model, images, start = tiny(**ONE_STAGE), images_of(), positive(2, 9, 9, 8)
    run = first_stage(model, random_variables(model, images), images, "conv2")
    (c2, end, branches), pull = jax.vjp(run, start)
    assert np.abs(branches).max() > 1
    np.testing.assert_allclose(end, start + branches, rtol=1e-5, atol=1e-5)

    gradient = np.random.default_rng(2).normal(size=end.shape).astype(np.float32)
    nothing = jnp.zeros_like(gradient)
    (of_end,), (of_branches,) = (
        pull((jnp.zeros_like(c2), *both)) for both in ((gradient, nothing), (nothing, gradient))
    )
    assert np.abs(of_branches).max() > 0.1
    np.testing.assert_allclose(of_end, gradient + of_branches, rtol=1e-4, atol=1e-4)


KEEPING = [({}, "conv2"), ({"bottleneck": True, "widths": (2,)}, "conv3")]


@pytest.mark.parametrize(("fields", "last"), long_but(KEEPING, KEEPING[:1]))
def test_identities_keep_the_gradient_exactly(fields, last):
    # Beside it nothing comes through branches that are constant; half of x_L is below zero.
    model, images, start = tiny(**{**ONE_STAGE, **fields}), images_of(), positive(2, 9, 9, 8)
    run = first_stage(model, random_variables(model, images), images, last, -0.125)
    (c2, end, branches), pull = jax.vjp(run, start)
    np.testing.assert_allclose(end, start - 4 * 0.125, rtol=1e-5, atol=1e-6)
    gradient = np.random.default_rng(2).normal(size=end.shape).astype(np.float32)
    (kept,) = pull((jnp.zeros_like(c2), gradient, jnp.zeros_like(branches)))
    np.testing.assert_array_equal(kept, gradient)


def test_an_activation_after_the_addition_does_not_keep_it():
    # The original network, with the same constants: half of x_0 ends below zero.
    fields = {"blocks": 4, "widths": (8, 8, 8), "num_classes": 3}
    model, images, start = create_model("resnet20", **fields), images_of(), positive(2, 9, 9, 8)
    run = first_stage(model, random_variables(model, images), images, "bn2", -0.125)
    end, pull = jax.vjp(lambda start: run(start)[0], start)
    gradient = np.random.default_rng(2).normal(size=end.shape).astype(np.float32)
    (left,) = pull(gradient)
    np.testing.assert_array_equal(left, np.where(start > 4 * 0.125, gradient, 0))


LAST = [(False, "conv2"), (True, "conv3")]


@pytest.mark.parametrize(("bottleneck", "last"), long_but(LAST, [], LAST[:1]))
def test_dropout_is_before_the_last_convolution(bottleneck, last):
    model, images = tiny(bottleneck=bottleneck), images_of()
    variables = random_variables(model, images)
    dropping = model.clone(dropout=1.0)
    dropped, _ = jax.jit(lambda key: train(dropping, variables, images, key))(jax.random.key(0))
    params = {
        name: jax.tree.map(jnp.zeros_like, layer) if name.endswith(last) else layer
        for name, layer in variables["params"].items()
    }
    without = {**variables, "params": params}
    expected, _ = jax.jit(lambda: train(model, without, images))()
    np.testing.assert_allclose(dropped["logits"], expected["logits"], rtol=1e-5, atol=1e-5)
