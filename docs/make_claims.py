"""Checks numbers that courses and papers state about networks, and prints docs/claims.md.

  python docs/make_claims.py > docs/claims.md

The numbers in the column "computed" are computed with the modules and ops of this library. A claim
holds if it differs by at most one in its last digit.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxvision import ops
from jaxvision.layers import conv_norm_act
from jaxvision.losses import sigmoid_focal_loss
from jaxvision.models import Summary, create_model, input_size, summarize

INTRODUCTION = """# Claims about networks, checked

This page compares numbers that courses and papers state about networks with numbers that are
computed with the modules and ops of this library. `python docs/make_claims.py > docs/claims.md`
writes it, and `tests/test_claims.py` checks it. A claim holds if it differs by at most one in its
last digit.

Claims that need experiments are in [benchmarks](../benchmarks/README.md): depth with and without
shortcuts ([picture](degradation.png)), learning rates with and without batch norm
([picture](batch_norm.png)), gradients layer by layer ([picture](gradients.png)), and remedies
against class imbalance ([table and picture](one_stage.md)).
"""


class Claim(NamedTuple):
    """A statement that contains one or several numbers."""

    what: str
    said: Any
    """The stated value: a number, a tuple of sides and channels, or a list of values."""
    computed: Any
    """The value computed with this library."""
    unit: str = ""
    by: float = 0
    """The largest difference allowed: one in the last digit of the stated value."""
    why: str = ""
    """If the claim does not hold, the calculation that explains the difference."""

    @property
    def holds(self) -> bool:
        return bool(np.all(np.abs(np.subtract(self.computed, self.said)) <= self.by * (1 + 1e-9)))


class Layers(nn.Module):
    """A network of some layers."""

    body: Callable[[jax.Array], jax.Array]

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> dict[str, jax.Array]:
        del train
        return {"map": self.body(images)}


def conv(x: jax.Array, features: int, kernel_size: int, name: str, *, groups: int = 1) -> jax.Array:
    """Applies a convolution without norm, bias and activation."""
    options = {"norm": None, "norm_name": "", "use_bias": False, "act": None, "groups": groups}
    return conv_norm_act(x, features, kernel_size, name=name, **options)


def cost(body: Callable[[jax.Array], jax.Array], *shape: int) -> Summary:
    return summarize(Layers(body), shape)


def published(name: str, **fields: Any) -> Summary:
    """Summarizes a network of the library at its published image size."""
    return summarize(create_model(name, **fields), input_size(name))


def inception(x: jax.Array, *, bottlenecks: bool) -> jax.Array:
    """Applies an Inception module: 128, 192 and 96 channels of 1x1, 3x3 and 5x5, and a pooling."""
    pooled = ops.max_pool(x, 3, stride=1, padding=1)
    branches = [conv(x, 128, 1, "direct")]
    for size, features in ((3, 192), (5, 96)):
        y = conv(x, 64, 1, f"before{size}") if bottlenecks else x
        branches.append(conv(y, features, size, f"conv{size}"))
    branches.append(conv(pooled, 64, 1, "pooled") if bottlenecks else pooled)
    return jnp.concatenate(branches, axis=-1)


def receptive_field(*kernel_sizes: int) -> tuple[int, int]:
    """Computes (height, width) of the pixels on which one value after convolutions depends."""

    def middle(image: jax.Array) -> jax.Array:
        x = image[None, :, :, None]
        for size in kernel_sizes:
            x = ops.conv2d(x, jnp.ones((size, size, 1, 1)), padding=size // 2)
        return x[0, 15, 15, 0]

    seen = np.nonzero(jax.grad(middle)(jnp.ones((31, 31))))
    return tuple(int(np.ptp(places)) + 1 for places in seen)


def layers() -> Iterator[Claim]:
    """Layers"""
    place = (28, 28, 256)
    naive = cost(partial(inception, bottlenecks=False), *place)
    reduced = cost(partial(inception, bottlenecks=True), *place)
    what = "Inception module on 28 x 28 x 256, multiplications"
    yield Claim(f"{what}: naive", 854, naive.macs / 1e6, "M", by=1)
    yield Claim(f"{what}: with 1x1 bottlenecks", 271, reduced.macs / 1e6, "M", by=1)
    once = cost(lambda x: conv(x, 192, 3, "conv3"), 28, 28, 64).macs / 1e6
    why = f"the slide counts the 3x3 twice, {reduced.macs / 1e6:.1f} M + {once:.1f} M"
    yield Claim(
        f"{what}: with bottlenecks, on a slide", 358, reduced.macs / 1e6, "M", by=1, why=why
    )

    wide = cost(lambda x: conv(x, 32, 5, "conv"), 28, 28, 192)
    narrow = cost(lambda x: conv(conv(x, 16, 1, "before"), 32, 5, "conv"), 28, 28, 192)
    what = "5x5 convolution, 28 x 28 x 192 to 32 channels, multiplications"
    yield Claim(what, 120.4, wide.macs / 1e6, "M", by=0.1)
    yield Claim(f"{what}: after a 1x1 to 16", 12.4, narrow.macs / 1e6, "M", by=0.1)

    yield Claim("Receptive field of three 3x3 convolutions", (7, 7), receptive_field(3, 3, 3))
    yield Claim("Receptive field of one 7x7 convolution", (7, 7), receptive_field(7))
    channels = 64

    def stacked(x: jax.Array) -> jax.Array:
        for name in ("conv1", "conv2", "conv3"):
            x = conv(x, channels, 3, name)
        return x

    per_square = channels**2
    three, one = (
        cost(body, 32, 32, channels).params / per_square
        for body in (stacked, lambda x: conv(x, channels, 7, "conv"))
    )
    yield Claim("Weights of three 3x3 convolutions, C = 64", 27, three, "C^2")
    yield Claim("Weights of one 7x7 convolution, C = 64", 49, one, "C^2")

    c, k = 96, 160

    def separable(x: jax.Array) -> jax.Array:
        return conv(conv(x, c, 3, "depthwise", groups=c), k, 1, "pointwise")

    pixels = 32 * 32
    dense, apart = (
        cost(body, 32, 32, c).macs / pixels for body in (lambda x: conv(x, k, 3, "conv"), separable)
    )
    what = "3x3 convolution, C = 96 to K = 160, multiplications per pixel"
    yield Claim(f"{what}: 9 K C", 9 * k * c, dense)
    yield Claim(f"{what}: separable, (9 + K) C", (9 + k) * c, apart)

    x = np.array([[1, 2, 6, 3], [3, 5, 2, 1], [1, 2, 2, 1], [7, 3, 4, 8]], np.float32)
    pooled, indices = ops.max_pool_with_indices(x[None, :, :, None], 2)
    yield Claim("Max pooling of the 4 x 4 example", [5, 6, 7, 8], pooled.ravel().tolist())
    values = jnp.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 2, 2, 1)
    back = ops.max_unpool(values, indices, output_size=(4, 4)).ravel()
    there = [0, 0, 2, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3, 0, 0, 4]
    yield Claim("Max unpooling of 1 2 3 4 to the positions of the maxima", there, back.tolist())

    for n, size, stride, padding, more in ((2, 3, 2, 1, 1), (2, 3, 1, 0, 0), (28, 2, 2, 0, 0)):
        kernel = jnp.ones((size, size, 1, 1))
        options = {"stride": stride, "padding": padding, "output_padding": more}
        y = ops.conv_transpose2d(jnp.ones((1, n, n, 1)), kernel, **options)
        what = f"Transposed convolution of {n} x {n}: {size}x{size}, stride {stride}, padding"
        what += f" {padding}, output padding {more}: stride (n - 1) + kernel - 2 padding + more"
        side = stride * (n - 1) + size - 2 * padding + more
        yield Claim(what, (side, side), y.shape[1:3])


def losses() -> Iterator[Claim]:
    """Losses"""
    # (number of examples, predicted probability of their class).
    easy, hard = (10_000, 0.8), (10, 0.05)

    def loss(group: tuple[int, float], gamma: float) -> float:
        count, p = group
        logits = jnp.full(count, math.log((1 - p) / p))
        total, _ = sigmoid_focal_loss(logits, jnp.zeros(count), alpha=None, gamma=gamma)
        return float(total)

    yield Claim("Cross entropy of 10,000 easy backgrounds, p = 0.8", 2231, loss(easy, 0), by=1)
    yield Claim("Cross entropy of 10 hard objects, p = 0.05", 30, loss(hard, 0), by=1)
    for gamma, said, by in ((0, 74, 1), (2, 3.3, 0.1)):
        ratio = loss(easy, gamma) / loss(hard, gamma)
        what = f"Ratio of the two with focal loss, gamma = {gamma}"
        yield Claim(what, said, ratio, "to 1", by=by)
    turn = next(g / 10 for g in range(100) if loss(easy, g / 10) < loss(hard, g / 10))
    yield Claim("Least gamma at which the hard objects have the larger loss", 2.8, turn)


class Layer(NamedTuple):
    """A layer of a network, for one image."""

    name: str
    volume: tuple[int, ...]
    """The shape of its output: height, width and channels, or features."""
    weights: int
    """The number of weights without biases."""
    biases: int = 0


def layers_of(name: str) -> list[Layer]:
    """Returns the convolutions and fully connected layers of a network, in the order of calls."""
    found = []

    def record(
        call: Callable, args: Any, kwargs: Any, context: nn.module.InterceptorContext
    ) -> Any:
        y, module = call(*args, **kwargs), context.module
        if isinstance(module, nn.Conv | nn.Dense):
            sizes = {leaf: x.size for leaf, x in module.variables["params"].items()}
            found.append(Layer(module.name, y.shape[1:], sizes["kernel"], sizes.get("bias", 0)))
        return y

    with nn.intercept_methods(record):
        published(name)
    return found


def vgg16() -> list[Layer]:
    """Returns the layers of VGG-16 with its input and its poolings."""
    rows = [Layer("input", input_size("vgg16"), 0)]
    for layer in layers_of("vgg16"):
        match rows[-1].volume:
            case height, width, channels if layer.volume[0] != height:
                rows.append(Layer("pool", (height // 2, width // 2, channels), 0))
        rows.append(layer)
    return rows


def networks() -> Iterator[Claim]:
    """Networks"""
    alexnet, vgg, googlenet = map(published, ("alexnet_2012", "vgg16", "googlenet_2014"))
    convolutions = layers_of("alexnet_2012")
    first = convolutions[0]
    yield Claim("AlexNet: parameters of conv1", 35, (first.weights + first.biases) / 1e3, "K", by=1)
    volumes = ((55, 55, 96), (27, 27, 256), (13, 13, 384), (13, 13, 384), (13, 13, 256))
    volumes += ((4096,), (4096,), (1000,))
    for volume, layer in zip(volumes, convolutions, strict=True):
        yield Claim(f"AlexNet: volume of {layer.name}", volume, layer.volume)
    squeezenet = published("squeezenet1_0")
    what = "AlexNet's parameters divided by SqueezeNet's"
    yield Claim(what, 50, alexnet.params / squeezenet.params, "times", by=5)

    why = f"{{:.2f}} M / {googlenet.params / 1e6:.2f} M; {{}} is for the 5 M on the slides"
    for name, network, said in (("AlexNet", alexnet, 12), ("VGG-16", vgg, 27)):
        times = network.params / googlenet.params
        what = f"{name}'s parameters divided by GoogLeNet's (without auxiliary classifiers)"
        yield Claim(what, said, times, "times", 1, why.format(network.params / 1e6, said))

    for depth, said in ((18, 1.8), (34, 3.6), (50, 3.8), (101, 7.6), (152, 11.3)):
        fields = {"stride_in_1x1": True} if depth >= 50 else {}
        macs = published(f"resnet{depth}", **fields).macs / 1e9
        yield Claim(f"ResNet-{depth}: multiply-adds", said, macs, "G", by=0.1)
    for name, millions, billions in (("resnet50", 25.5, 4.1), ("resnext50_32x4d", 25.0, 4.2)):
        cost_of = published(name)  # with strides in the 3x3 convolutions, as in ResNeXt
        what = f"{name} in ResNeXt's paper"
        yield Claim(f"{what}: parameters", millions, cost_of.params / 1e6, "M", by=0.1)
        yield Claim(f"{what}: multiply-adds", billions, cost_of.macs / 1e9, "G", by=0.1)

    for name, said, fields in (
        ("vgg16", 30.95, {}),
        ("extraction", 8.52, {"classifier": "conv"}),  # as in Darknet's file
        ("resnet50", 7.66, {"stride_in_1x1": True}),
        ("darknet19", 5.58, {}),
    ):
        macs = summarize(create_model(name, **fields), (224, 224, 3)).macs / 1e9
        why = f"2 x {macs:.3f} G multiply-adds, with strides in the first 1x1 as in the paper"
        what = f"{name}: operations, 224 x 224"
        yield Claim(what, said, 2 * macs, "G", by=0.01, why=why)

    rows = vgg16()
    values = sum(math.prod(row.volume) for row in rows)
    why = "the rows of the same table, listed below, have a smaller sum"
    yield Claim("VGG-16: values of all layers for an image", 24, values / 1e6, "M", by=1, why=why)
    weights = sum(row.weights for row in rows)
    yield Claim("VGG-16: weights", 138, weights / 1e6, "M", by=1)
    dense = next(row.weights for row in rows if row.volume == (4096,))
    yield Claim("VGG-16: weights of the first fully connected layer", 102_760_448, dense)


def detectors() -> Iterator[Claim]:
    """Detectors"""
    yolo = summarize(create_model("yolov1"), input_size("yolov1")).maps
    yield Claim("YOLO: boxes", 98, math.prod(yolo["confidence"][1:]))
    grid = yolo["confidence"][1:3]
    values = sum(math.prod(shape) for shape in yolo.values())
    yield Claim("YOLO: tensor", (7, 7, 30), (*grid, values // math.prod(grid)))
    fields = {"classes_of_boxes": True}
    own = summarize(create_model("yolov1", **fields), input_size("yolov1")).maps
    values = sum(math.prod(shape) for shape in own.values())
    what = "YOLO: tensor, with classes for each box"
    yield Claim(what, (7, 7, 50), (*grid, values // math.prod(grid)))
    height, width, anchors, scores = published("yolov2").maps["logits"][1:]
    yield Claim("YOLOv2: tensor", (13, 13, 125), (height, width, anchors * scores))
    for name, options, said in (("SSD300", ops.SSD300, 8732), ("SSD512", ops.SSD512, 24564)):
        yield Claim(f"{name}: boxes", said, len(ops.ssd_default_boxes(**options)))


SECTIONS = (layers, networks, detectors, losses)


def _text(value: Any) -> str:
    if isinstance(value, tuple | list):
        return (" x " if isinstance(value, tuple) else " ").join(map(_text, value))
    if float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:,.5g}" if abs(value) < 1e4 else f"{value:,.0f}"


def rows(claims: list[Claim]) -> Iterator[str]:
    yield "| claim | stated | computed | |"
    yield "|---|---|---|---|"
    for claim in claims:
        said, computed = (
            f"{_text(value)} {claim.unit}".rstrip() for value in (claim.said, claim.computed)
        )
        verdict = "holds" if claim.holds else f"does not hold: {claim.why}"
        yield f"| {claim.what} | {said} | {computed} | {verdict} |"


def main() -> None:
    print(INTRODUCTION)
    for section in SECTIONS:
        print(f"## {section.__doc__}\n")
        print("\n".join(rows(list(section()))), end="\n\n")
    print("## VGG-16, layer by layer\n")
    print("| layer | volume | values | weights |\n|---|---|---|---|")
    for name, volume, weights, _ in vgg16():
        print(f"| {name} | {_text(volume)} | {math.prod(volume):,} | {weights:,} |")


if __name__ == "__main__":
    main()
