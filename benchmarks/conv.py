"""Compares the speed of several forms of convolution and max pooling with torch's.

  python benchmarks/conv.py [--rounds 7] [--only grouped,depthwise,...]

A row is a shape and a direction: forward, backward (the gradients with respect to image and
kernel), or both. Its columns are milliseconds: "ours" (`jaxvision.ops` on this platform), "lax"
(the plain operation of JAX), other forms, and torch. They run alternately, each for some
milliseconds. Each number is the median over the rounds, after a warm-up. "x" is ours divided by
torch's. The line below has the megabytes of temporary memory of each compiled form. Forms that take
more than a second run once. The last rows are MobileNetV2 at 224, batch 8: evaluation, and a
training step.
"""

import argparse
import functools
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from timing import machine
from versus_torch import import_torchvision, torch

from jaxvision.models import create_model
from jaxvision.ops import conv2d, conv_transpose2d, max_pool

DIMENSIONS = ("NHWC", "HWIO", "NHWC")
# (batch, size, channels in, channels out, kernel, stride, groups)
GROUPED = [
    (4, 56, 128, 128, 3, 1, 32),
    (4, 28, 256, 256, 3, 1, 32),
    (4, 14, 512, 512, 3, 1, 32),
    (4, 7, 1024, 1024, 3, 1, 32),
    (4, 28, 240, 240, 1, 1, 3),
    (4, 28, 200, 200, 1, 1, 2),
    (4, 14, 480, 480, 1, 1, 8),
]
DEPTHWISE = [
    (8, size, channels, channels, kernel, stride, channels)
    for size, channels, kernel, stride in [
        (112, 32, 3, 1),
        (112, 96, 3, 2),
        (56, 144, 3, 1),
        (14, 384, 3, 1),
        (7, 960, 3, 1),
        (28, 120, 5, 1),
        (56, 72, 5, 2),
        (14, 480, 5, 1),
        (7, 960, 5, 1),
    ]
]
DENSE = [
    (2, 224, 64, 64, 3, 1, 1),
    (2, 128, 128, 128, 3, 1, 1),
    (2, 112, 128, 128, 3, 1, 1),
    (8, 56, 64, 64, 3, 1, 1),
    (8, 28, 128, 128, 3, 1, 1),
    (8, 14, 256, 256, 3, 1, 1),
    (8, 14, 512, 512, 3, 1, 1),
    (8, 7, 512, 512, 3, 1, 1),
]
POINTWISE = [
    (8, 112, 16, 96, 1, 1, 1),
    (8, 56, 144, 24, 1, 1, 1),
    (8, 28, 192, 32, 1, 1, 1),
    (8, 14, 576, 96, 1, 1, 1),
    (8, 7, 960, 320, 1, 1, 1),
]
# (batch, size, channels in, channels out); 2x2 at stride 2
TRANSPOSED = [(1, 256, 64, 32), (1, 256, 128, 64), (1, 64, 512, 256)]
# (batch, size, channels, window, stride, padding)
POOLED = [(8, 112, 64, 3, 2, 1), (2, 224, 64, 2, 2, 0)]


# The forms, as functions of (x, kernel), all with the same result. The library uses some of them,
# others were never the fastest.


def plain(x, kernel, *, stride, groups):
    pad = kernel.shape[0] // 2
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(pad, pad)] * 2,
        dimension_numbers=DIMENSIONS,
        feature_group_count=groups,
    )


def blocks(x, kernel, *, stride, groups, parts):
    """Merges the groups to `parts` blocks, and convolves each block densely."""
    kh, kw, inputs, outputs = kernel.shape
    merged = groups // parts
    own = jnp.eye(merged)[:, None, None, :, None]
    spread = kernel.reshape(kh, kw, 1, inputs, parts, merged, -1) * own
    spread = spread.reshape(kh, kw, -1, outputs)
    split = functools.partial(jnp.split, indices_or_sections=parts, axis=-1)
    each = [
        plain(*pair, stride=stride, groups=1) for pair in zip(split(x), split(spread), strict=True)
    ]
    return jnp.concatenate(each, axis=-1)


def lanes(x, kernel, *, stride, groups):
    """Works elementwise over the groups, with the channels of a group in a separate axis."""
    del stride
    kh, kw, inputs, _ = kernel.shape
    b, h, w, _ = x.shape
    pad = kh // 2
    x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    x = x.reshape(b, h + 2 * pad, w + 2 * pad, groups, inputs).swapaxes(3, 4)
    kernel = kernel.reshape(kh, kw, inputs, groups, -1).swapaxes(3, 4)
    y = sum(
        x[:, i : i + h, j : j + w, c, None] * kernel[i, j, c]
        for i in range(kh)
        for j in range(kw)
        for c in range(inputs)
    )
    return y.swapaxes(3, 4).reshape(b, h, w, -1)


def shifted_products(x, kernel, *, stride, groups):
    """Computes one matrix product for each element of the kernel and each group."""
    kh, kw, inputs, _ = kernel.shape
    b, h, w, _ = x.shape
    pad = kh // 2
    x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    x = x.reshape(*x.shape[:3], groups, inputs)
    kernel = kernel.reshape(kh, kw, inputs, groups, -1)
    y = sum(
        jnp.einsum("bhwgi,igo->bhwgo", x[:, i : i + h, j : j + w], kernel[i, j])
        for i in range(kh)
        for j in range(kw)
    )
    return y.reshape(b, h, w, -1)


def shifted_slices(x, kernel, *, stride, groups):
    """Sums slices of a padded copy, for depthwise convolutions; differentiated by JAX."""
    del groups
    kh, kw, _, _ = kernel.shape
    pad = kh // 2
    _, h, w, _ = x.shape
    x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    return sum(
        x[:, i : i + h : stride, j : j + w : stride] * kernel[i, j, 0]
        for i in range(kh)
        for j in range(kw)
    )


def shifted_products_of_pixels(x, kernel, *, stride, groups):
    """Multiplies first and shifts then, for depthwise convolutions; differentiated by JAX."""
    del groups
    kh, kw, _, _ = kernel.shape
    pad = kh // 2

    def shift(x, i, j):
        config = [(0, 0, 0), (pad - i, i - pad, 0), (pad - j, j - pad, 0), (0, 0, 0)]
        return lax.pad(x, 0.0, config)[:, ::stride, ::stride]

    return sum(shift(x * kernel[i, j, 0], i, j) for i in range(kh) for j in range(kw))


def packed_rows(x, kernel, *, stride, groups):
    """Places the batch along the width, so that rows are long, for dense convolutions."""
    del groups
    b, h, w, c = x.shape
    pad = kernel.shape[0] // 2
    wide = jnp.pad(x, ((0, 0), (0, 0), (0, pad), (0, 0))).swapaxes(0, 1)
    y = plain(wide.reshape(1, h, b * (w + pad), c), kernel, stride=stride, groups=1)
    return y.reshape(h, b, w + pad, -1)[:, :, :w].swapaxes(0, 1)


def as_matrix(x, kernel, *, stride, groups):
    """Computes one matrix product, for dense 1x1 convolutions."""
    del stride, groups
    return (x.reshape(-1, x.shape[-1]) @ kernel[0, 0]).reshape(*x.shape[:3], -1)


def plain_transposed(x, kernel):
    return lax.conv_transpose(x, kernel[::-1, ::-1], (2, 2), "VALID", dimension_numbers=DIMENSIONS)


def tiled_transposed(x, kernel):
    b, h, w, c = x.shape
    y = x.reshape(-1, c) @ kernel.transpose(2, 0, 1, 3).reshape(c, -1)
    y = y.reshape(b, h, w, 2, 2, -1).transpose(0, 1, 3, 2, 4, 5)
    return y.reshape(b, 2 * h, 2 * w, -1)


def plain_pool(x, *, window, stride, padding):
    return lax.reduce_window(
        x,
        -jnp.inf,
        lax.max,
        (1, window, window, 1),
        (1, stride, stride, 1),
        ((0, 0), (padding, padding), (padding, padding), (0, 0)),
    )


# Measuring.


class Form:
    """A compiled function on its arguments."""

    def __init__(self, fn, *args):
        self._compiled = jax.jit(fn).lower(*args).compile()
        self._args = args
        self.megabytes = self._compiled.memory_analysis().temp_size_in_bytes / 1e6

    def __call__(self):
        jax.block_until_ready(self._compiled(*self._args))


def measure(forms, rounds):
    """Runs the forms alternately, and returns name -> median milliseconds."""
    repeats = {}
    for name, form in forms.items():
        form()
        began = time.perf_counter()
        form()
        elapsed = time.perf_counter() - began
        repeats[name] = 0 if elapsed > 1 else max(1, min(50, int(0.02 / elapsed)))
    times = {name: [] for name in forms}
    for turn in range(rounds):
        for name, form in forms.items():
            if repeats[name] == 0 and turn > 0:
                continue
            # Threads of the form before still wait busily for work: let them fall asleep.
            time.sleep(0.02)
            if repeats[name]:
                form()
            began = time.perf_counter()
            for _ in range(max(1, repeats[name])):
                form()
            times[name].append((time.perf_counter() - began) / max(1, repeats[name]))
    return {name: 1e3 * statistics.median(values) for name, values in times.items()}


RATIOS = []


def report(title, forms, rounds):
    times = measure(forms, rounds)
    ratio = ""
    if "torch" in times:
        RATIOS.append((times["ours"] / times["torch"], title))
        ratio = f"  x {RATIOS[-1][0]:.2f}"
    print(
        f"{title:<36}" + "  ".join(f"{name} {value:.2f}" for name, value in times.items()) + ratio
    )
    memory = [
        f"{name} {form.megabytes:.1f}" for name, form in forms.items() if hasattr(form, "megabytes")
    ]
    print(f"{'':<36}temp MB: {'  '.join(memory)}", flush=True)


def backward(fn, *, value=False):
    """Returns a function (x, kernel, cotangent) -> gradients, and with `value` also the value."""

    def run(*args):
        y, vjp = jax.vjp(fn, *args[:-1])
        return (vjp(args[-1]), y) if value else vjp(args[-1])

    return run


def to_torch(x):
    return torch.from_numpy(np.asarray(x).transpose(0, 3, 1, 2).copy())


def random(*size):
    return jnp.asarray(np.random.default_rng(0).normal(size=size), jnp.float32)


def both_ways(title, forms, arrays, torch_fn, torch_arrays, rounds, *, linear=True):
    """Prints rows for forward and backward; forms: name -> function of the arrays.

    If the operation is not linear, its gradient needs results of the forward pass. Then the second
    row is for both together.
    """
    second = "backward" if linear else "both"
    y = jax.eval_shape(forms["ours"], *arrays)
    cotangent = random(*y.shape)
    ways = {
        "forward": {name: Form(fn, *arrays) for name, fn in forms.items()},
        second: {
            name: Form(backward(fn, value=not linear), *arrays, cotangent)
            for name, fn in forms.items()
        },
    }
    if torch is not None:
        given = [array.requires_grad_() for array in torch_arrays]
        output, gradient = torch_fn(*given), to_torch(cotangent)

        def torch_forward():
            with torch.no_grad():
                torch_fn(*given)

        def torch_backward():
            of = output if linear else torch_fn(*given)
            torch.autograd.grad(of, given, gradient, retain_graph=linear)

        ways["forward"]["torch"], ways[second]["torch"] = torch_forward, torch_backward
    for way, of_way in ways.items():
        report(f"{title} {way}", of_way, rounds)


def convolutions(shapes, forms_of, rounds):
    for batch, size, inputs, outputs, kernel_size, stride, groups in shapes:
        x = random(batch, size, size, inputs)
        kernel = random(kernel_size, kernel_size, inputs // groups, outputs)
        options = {"stride": stride, "groups": groups}
        padding = kernel_size // 2
        forms = {
            "ours": functools.partial(conv2d, padding=padding, **options),
            "lax": functools.partial(plain, **options),
        }
        for name, form in forms_of(kernel_size, stride, inputs // groups, groups).items():
            forms[name] = functools.partial(form, **options)
        torch_fn, torch_arrays = None, ()
        if torch is not None:
            torch_fn = functools.partial(torch.nn.functional.conv2d, padding=padding, **options)
            weight = np.asarray(kernel).transpose(3, 2, 0, 1).copy()
            torch_arrays = to_torch(x), torch.from_numpy(weight)
        name = f"{batch}x{size}x{size}x{inputs}" + (f">{outputs}" if outputs != inputs else "")
        name += f" k{kernel_size}" + (f" s{stride}" if stride > 1 else "")
        name += f" g{groups}" if 1 < groups < inputs else ""
        both_ways(name, forms, (x, kernel), torch_fn, torch_arrays, rounds)


def grouped_forms(kernel_size, stride, inputs, groups):
    del stride
    parts = [n for n in (2, 4, 8, 16, 32) if groups % n == 0 and n <= groups]
    if groups == 3:
        parts = [3]
    forms = {f"{n} blocks": functools.partial(blocks, parts=n) for n in parts[-4:]}
    forms["products"] = shifted_products
    if kernel_size > 1 and inputs <= 8:
        forms["lanes"] = lanes
    return forms


def depthwise_forms(kernel_size, stride, inputs, groups):
    return {"slices": shifted_slices, "shifted products": shifted_products_of_pixels}


def dense_forms(kernel_size, stride, inputs, groups):
    return {"packed rows": packed_rows}


def pointwise_forms(kernel_size, stride, inputs, groups):
    return {"matrix": as_matrix}


def transposed(rounds):
    for batch, size, inputs, outputs in TRANSPOSED:
        x, kernel = random(batch, size, size, inputs), random(2, 2, inputs, outputs)
        forms = {
            "ours": functools.partial(conv_transpose2d, stride=2),
            "lax": plain_transposed,
            "tiles": tiled_transposed,
        }
        torch_fn, torch_arrays = None, ()
        if torch is not None:
            torch_fn = functools.partial(torch.nn.functional.conv_transpose2d, stride=2)
            weight = np.asarray(kernel).transpose(2, 3, 0, 1).copy()
            torch_arrays = to_torch(x), torch.from_numpy(weight)
        name = f"{batch}x{size}x{size}x{inputs}>{outputs} k2 s2"
        both_ways(name, forms, (x, kernel), torch_fn, torch_arrays, rounds)


def pooled(rounds):
    for batch, size, channels, window, stride, padding in POOLED:
        x = random(batch, size, size, channels)
        forms = {
            "ours": lambda x, w=window, s=stride, p=padding: max_pool(x, w, stride=s, padding=p),
            "lax": functools.partial(plain_pool, window=window, stride=stride, padding=padding),
        }
        torch_fn, torch_arrays = None, ()
        if torch is not None:
            torch_fn = functools.partial(
                torch.nn.functional.max_pool2d, kernel_size=window, stride=stride, padding=padding
            )
            torch_arrays = (to_torch(x),)
        name = f"{batch}x{size}x{size}x{channels} pool {window}/{stride}"
        both_ways(name, forms, (x,), torch_fn, torch_arrays, rounds, linear=False)


# MobileNetV2.


class TrainingStep:
    """A training step: batch norm, loss, gradients and SGD with momentum. It donates the state."""

    def __init__(self, images, labels):
        model = create_model("mobilenet_v2")
        tx = optax.sgd(0.01, momentum=0.9)

        def step(params, statistics, opt_state, images, labels, key):
            def objective(params):
                outputs, changed = model.apply(
                    {"params": params, "batch_stats": statistics},
                    images,
                    train=True,
                    mutable=["batch_stats"],
                    rngs={"dropout": key},
                )
                losses = optax.softmax_cross_entropy_with_integer_labels(outputs["logits"], labels)
                return losses.mean(), changed["batch_stats"]

            grads, statistics = jax.grad(objective, has_aux=True)(params)
            updates, opt_state = tx.update(grads, opt_state, params)
            return optax.apply_updates(params, updates), statistics, opt_state

        variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), images)
        params = variables["params"]
        self._state = params, variables["batch_stats"], tx.init(params)
        self._batch = images, labels, jax.random.key(1)
        jitted = jax.jit(step, donate_argnums=(0, 1, 2))
        self._compiled = jitted.lower(*self._state, *self._batch).compile()
        self.megabytes = self._compiled.memory_analysis().temp_size_in_bytes / 1e6

    def __call__(self):
        self._state = jax.block_until_ready(self._compiled(*self._state, *self._batch))


def mobilenet(rounds):
    images, labels = random(8, 224, 224, 3), jnp.arange(8) * 100
    model = create_model("mobilenet_v2")
    step = TrainingStep(images, labels)
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), images)

    def evaluate(variables, images):
        return model.apply(variables, images, train=False)["logits"]

    forms = {
        "forward": {"ours": Form(evaluate, variables, images)},
        "training step": {"ours": step},
    }
    models = import_torchvision("models")
    if models is not None:
        theirs = models.mobilenet_v2()
        torch_images, torch_labels = to_torch(images), torch.arange(8) * 100
        optimizer = torch.optim.SGD(theirs.parameters(), 0.01, 0.9)

        def torch_evaluate():
            theirs.eval()
            with torch.no_grad():
                theirs(torch_images)

        def torch_step():
            theirs.train()
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(theirs(torch_images), torch_labels).backward()
            optimizer.step()

        forms["forward"]["torch"], forms["training step"]["torch"] = torch_evaluate, torch_step
    for way, of_way in forms.items():
        report(f"MobileNetV2 8x224x224 {way}", of_way, rounds)


PARTS = {
    "grouped": functools.partial(convolutions, GROUPED, grouped_forms),
    "depthwise": functools.partial(convolutions, DEPTHWISE, depthwise_forms),
    "dense": functools.partial(convolutions, DENSE, dense_forms),
    "pointwise": functools.partial(convolutions, POINTWISE, pointwise_forms),
    "transposed": transposed,
    "pooled": pooled,
    "mobilenet": mobilenet,
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--only", default=",".join(PARTS), help="parts to run, of: %(default)s", metavar="PARTS"
    )
    options = parser.parse_args()
    parts = options.only.split(",")
    for part in parts:
        if part not in PARTS:
            parser.error(f"unknown part {part!r}: choose from {', '.join(PARTS)}")
    if torch is None:
        print("torch is not installed: its columns are omitted")
    for part in parts:
        print(f"-- {part}")
        PARTS[part](options.rounds)
    if RATIOS:
        ratio, title = max(RATIOS)
        beyond = [title for ratio, title in RATIOS if ratio > 3]
        print(f"-- slowest against torch: x {ratio:.2f}, {title}; above 3: {len(beyond)}")
        for title in beyond:
            print(f"   {title}")
    print(machine("torch", "torchvision"))


if __name__ == "__main__":
    main()
