"""Measures time and peak memory of several forms of RoIAlign on a feature pyramid.

  python benchmarks/roi.py [--boxes 1000] [--channels 256] [--rounds 5] [--forms ops ...]

The pyramid (strides 4 to 32) is that of an image of --height x --width pixels. Boxes have sides of
16 to 500 pixels and are assigned to levels by the rule of FPN. Each form runs in a process of its
own: forward, backward (the gradient with respect to the features, without the forward pass, which a
linear operator does not need), and both, as in a training step. The columns are the median
milliseconds; the peak memory of the process in a run, above that of the inputs (Linux: its resident
memory, reset before the run; on an accelerator: what the allocator reports, never reset); the
compiler's sizes of temporary and output buffers; and the largest difference of output and gradient
from `ops`, divided by the largest value.

The forms, each with several numbers of boxes at a time (chunk), are
  ops        `jaxvision.ops.multilevel_roi_align`: `gathers` forward, `pairs` backward
  gathers    16 gathers of cells, summed in one loop, and their own gradient
  patches    one gather of 16 cells for each bin, and a product with their weights
  pairs      half as many gathers, of pairs of neighbouring cells, and a product
  matrices   two interpolation matrices for each box, on boxes grouped by level beforehand
  torchvision  its roi_align for each level, if its operators load
"""

import argparse
import functools
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from resident import memory_of_process, reset_peak
from timing import machine, median_ms

from jaxvision.ops import roi

STRIDES = (4, 8, 16, 32)
SCALES = tuple(1 / stride for stride in STRIDES)
FORMS = {
    "ops": (8, 16, 32, 64, 256),
    "gathers": (50, 1000),
    "patches": (50, 250),
    "pairs": (50,),
    "matrices": (25,),
    "torchvision": (None,),
}


def make_inputs(options):
    """Makes features of each level, boxes sorted by level, and a gradient of the output."""
    rng = np.random.default_rng(0)
    height, width, count = options.height, options.width, options.boxes
    features = [
        jnp.asarray(
            rng.standard_normal((-(-height // s), -(-width // s), options.channels), np.float32)
        )
        for s in STRIDES
    ]
    side = np.exp(rng.uniform(np.log(16), np.log(500), (count, 2)))
    centre = rng.uniform(0, (width, height), (count, 2))
    boxes = np.concatenate([centre - side / 2, centre + side / 2], axis=1)
    boxes = np.clip(boxes, 0, [width, height, width, height]).astype(np.float32)
    levels = np.asarray(roi.assign_levels(boxes, min_level=2, max_level=5)) - 2
    order = np.argsort(levels, kind="stable")
    gradient = rng.standard_normal(
        (count, options.output_size, options.output_size, options.channels), np.float32
    )
    return features, jnp.asarray(boxes[order]), levels[order], jnp.asarray(gradient)


# A form is a pair of functions of some boxes. The table holds the cells of all levels.
#   forward(table, samples) -> outputs        backward(table, samples, gradient) -> table


def each_neighbour(samples, ratio):
    """Yields index and weight [n, h, w] of each cell that contributes to a bin."""
    vertical, horizontal = samples
    for row, column, down, right in np.ndindex(ratio, ratio, 2, 2):
        rows, columns = np.s_[:, row::ratio, None], np.s_[:, None, column::ratio]
        yield (
            vertical.index[down][rows] + horizontal.index[right][columns],
            vertical.weight[down][rows] * horizontal.weight[right][columns],
        )


def gathers_forward(table, samples, *, ratio):
    return sum(weight[..., None] * table[i] for i, weight in each_neighbour(samples, ratio))


def gathers_backward(table, samples, gradient, *, ratio):
    for index, weight in each_neighbour(samples, ratio):
        table = table.at[index].add(weight[..., None] * gradient)
    return table


def stacked(samples, ratio):
    return (jnp.stack(x, axis=-1) for x in zip(*each_neighbour(samples, ratio), strict=True))


def patches_forward(table, samples, *, ratio):
    index, weight = stacked(samples, ratio)
    return jnp.einsum("npqk,npqkc->npqc", weight, table[index])


def patches_backward(table, samples, gradient, *, ratio):
    index, weight = stacked(samples, ratio)
    return table.at[index].add(weight[..., None] * gradient[:, :, :, None])


def pairs_of(samples, ratio):
    """Returns index [n, h, w, 2 ratio^2] of pairs of neighbouring cells, and weights [..., 2]."""
    neighbours = list(each_neighbour(samples, ratio))
    listed = list(zip(neighbours[::2], neighbours[1::2], strict=True))
    index = jnp.stack([first[0] for first, _ in listed], axis=-1)
    weight = jnp.stack([jnp.stack([w for _, w in both], -1) for both in listed], axis=-2)
    return index, weight


def pairs_forward(table, samples, *, ratio):
    index, weight = pairs_of(samples, ratio)
    numbers = lax.GatherDimensionNumbers(
        offset_dims=(4, 5), collapsed_slice_dims=(), start_index_map=(0,)
    )
    cells = lax.gather(table, index[..., None], numbers, (2, table.shape[1]), mode="clip")
    return jnp.einsum("npqkt,npqktc->npqc", weight, cells)


def pairs_backward(table, samples, gradient, *, ratio):
    index, weight = pairs_of(samples, ratio)
    numbers = lax.ScatterDimensionNumbers(
        update_window_dims=(4, 5), inserted_window_dims=(), scatter_dims_to_operand_dims=(0,)
    )
    updates = weight[..., None] * gradient[:, :, :, None, None]
    return lax.scatter_add(table, index[..., None], updates, numbers, mode="promise_in_bounds")


def padded_chunks(x, chunk):
    missing = -len(x) % chunk
    return jnp.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1)).reshape(-1, chunk, *x.shape[1:])


def on_the_table(forward_some, backward_some, chunk, options):
    """Builds forward(features, boxes, levels) and backward(features, boxes, levels, gradient)."""
    grid = roi._Grid((options.output_size,) * 2, options.sampling_ratio, True)

    def samples(features, boxes, levels):
        return roi._samples(boxes, levels, roi._sizes(features), SCALES, grid)

    def forward(features, boxes, levels):
        # The table has one more cell, because a pair may start at the last.
        table = jnp.concatenate([x.reshape(-1, x.shape[2]) for x in features])
        table = jnp.pad(table, ((0, 1), (0, 0))) if forward_some is pairs_forward else table
        outputs = lax.map(
            lambda some: forward_some(
                table, samples(features, *some), ratio=options.sampling_ratio
            ),
            tuple(padded_chunks(x, chunk) for x in (boxes, levels)),
        )
        return outputs.reshape(-1, *outputs.shape[2:])[: len(boxes)]

    def backward(features, boxes, levels, gradient):
        cells = [x.shape[0] * x.shape[1] for x in features]

        def add(table, some):
            *of_boxes, gradient = some
            of_boxes = samples(features, *of_boxes)
            return backward_some(table, of_boxes, gradient, ratio=options.sampling_ratio), None

        table, _ = lax.scan(
            add,
            jnp.zeros((sum(cells) + 1, gradient.shape[3])),
            tuple(padded_chunks(x, chunk) for x in (boxes, levels, gradient)),
        )
        parts = jnp.split(table, np.cumsum(cells))
        return [part.reshape(x.shape) for part, x in zip(parts, features, strict=False)]

    return forward, backward


def of_ops(chunk, options):
    roi._CHUNK_ON_CPU = roi._CHUNK = chunk

    def forward(features, boxes, levels):
        return roi.multilevel_roi_align(
            features,
            boxes,
            output_size=options.output_size,
            spatial_scales=SCALES,
            levels=levels,
            sampling_ratio=options.sampling_ratio,
        )

    def backward(features, boxes, levels, gradient):
        return jax.vjp(lambda x: forward(x, boxes, levels), features)[1](gradient)[0]

    return forward, backward


def of_matrices(chunk, options, counts):
    """Builds the form "matrices". `counts` are the numbers of sorted boxes of each level."""
    bins, ratio = options.output_size, options.sampling_ratio
    ends = np.cumsum(counts)

    def matrix(start, size, cells):
        x = roi._samples_along(start, size, jnp.full(len(start), cells), bins, ratio)
        rows = sum(
            weight[..., None] * jax.nn.one_hot(index, cells)
            for index, weight in zip(x.index, x.weight, strict=True)
        )
        return rows.reshape(len(start), bins, ratio, cells).sum(2)

    def some_of_level(x, boxes, level):
        boxes = boxes * SCALES[level]
        start, size = boxes[:, :2] - 0.5, boxes[:, 2:] - boxes[:, :2]
        down, right = (matrix(start[:, a], size[:, a], x.shape[1 - a]) for a in (1, 0))
        return jnp.einsum("nqw,npwc->npqc", right, jnp.einsum("nph,hwc->npwc", down, x))

    def levels_of(x):
        return np.split(np.arange(len(x)), ends[:-1])

    def forward(features, boxes, levels):
        outputs = []
        for level, x in enumerate(features):
            mine = boxes[ends[level] - counts[level] : ends[level]]
            y = lax.map(
                lambda some, x=x, level=level: some_of_level(x, some, level),
                padded_chunks(mine, chunk),
            )
            outputs.append(y.reshape(-1, *y.shape[2:])[: len(mine)])
        return jnp.concatenate(outputs)

    def backward(features, boxes, levels, gradient):
        gradients = []
        for level, x in enumerate(features):
            mine = np.s_[ends[level] - counts[level] : ends[level]]

            def add(total, some, x=x, level=level):
                boxes, gradient = some
                function = functools.partial(some_of_level, boxes=boxes, level=level)
                return total + jax.vjp(function, x)[1](gradient)[0], None

            chunks = tuple(padded_chunks(y[mine], chunk) for y in (boxes, gradient))
            gradients.append(lax.scan(add, jnp.zeros(x.shape), chunks)[0])
        return gradients

    return forward, backward


def steps_of_jax(forward, backward, features, boxes, levels, gradient):
    """Returns direction -> (call, bytes of temporary buffers, bytes of outputs)."""

    def both(features, boxes, levels):
        output = forward(features, boxes, levels)
        # The gradient of half the sum of squares.
        return backward(features, boxes, levels, output)

    arrays = features, boxes, jnp.asarray(levels)
    steps = {}
    for direction, function, of in (
        ("forward", forward, arrays),
        ("backward", backward, (*arrays, gradient)),
        ("both", both, arrays),
    ):
        compiled = jax.jit(function).lower(*of).compile()
        sizes = compiled.memory_analysis()
        call = functools.partial(lambda f, of: jax.block_until_ready(f(*of)), compiled, of)
        steps[direction] = call, sizes.temp_size_in_bytes, sizes.output_size_in_bytes
    return steps


def steps_of_torchvision(features, boxes, levels, gradient, options):
    import torch
    import torchvision

    there = [torch.tensor(np.asarray(x)).permute(2, 0, 1)[None].contiguous() for x in features]
    boxes, gradient = torch.tensor(np.asarray(boxes)), torch.tensor(np.asarray(gradient))
    gradient = gradient.permute(0, 3, 1, 2).contiguous()
    parts = np.split(np.arange(len(levels)), np.searchsorted(levels, np.arange(1, len(STRIDES))))

    def forward(maps):
        return torch.cat(
            [
                torchvision.ops.roi_align(
                    x, [boxes[part]], options.output_size, scale, options.sampling_ratio, True
                )
                for x, part, scale in zip(maps, parts, SCALES, strict=True)
            ]
        )

    def both(gradient=None):
        maps = [x.requires_grad_() for x in there]
        output = forward(maps)
        output.backward(output.detach() if gradient is None else gradient)
        gradients = [x.grad[0].permute(1, 2, 0).numpy() for x in maps]
        for x in there:
            x.grad = None
            x.requires_grad_(False)
        return gradients

    # Its backward pass cannot run alone, so "backward" includes the forward pass.
    return {
        "forward": (lambda: forward(there).permute(0, 2, 3, 1).numpy(), 0, 0),
        "backward": (lambda: both(gradient), 0, 0),
        "both": (both, 0, 0),
    }


def allocated():
    """Returns the bytes in use now, and their peak since `reset_peak`."""
    statistics = jax.devices()[0].memory_stats()
    if statistics:
        return statistics["bytes_in_use"], statistics["peak_bytes_in_use"]
    return memory_of_process()


def difference(actual, expected):
    pairs = list(zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True))
    largest = max(float(jnp.abs(y).max()) for _, y in pairs)
    return max(float(jnp.abs(jnp.asarray(x) - y).max()) for x, y in pairs) / largest


def measure(form, chunk, options):
    """Measures one form: returns a row for each direction, which the process prints."""
    features, boxes, levels, gradient = make_inputs(options)
    inputs = features, boxes, levels, gradient
    if form == "torchvision":
        steps = steps_of_torchvision(*inputs, options)
    elif form == "ops":
        steps = steps_of_jax(*of_ops(chunk, options), *inputs)
    elif form == "matrices":
        counts = np.bincount(levels, minlength=len(STRIDES))
        steps = steps_of_jax(*of_matrices(chunk, options, counts), *inputs)
    else:
        functions = (globals()[f"{form}_{direction}"] for direction in ("forward", "backward"))
        steps = steps_of_jax(*on_the_table(*functions, chunk, options), *inputs)

    rows = {}
    for direction, (call, temporary, output) in steps.items():
        if jax.default_backend() == "cpu":
            reset_peak()
        before, _ = allocated()
        result = call()
        rows[direction] = {
            "peak": allocated()[1] - before,
            "temporary": temporary,
            "output": output,
        }
        del result
    calls = {direction: call for direction, (call, *_) in steps.items()}
    for direction, ms in median_ms(calls, rounds=options.rounds, warmup=1).items():
        rows[direction]["ms"] = ms
    reference = steps_of_jax(*of_ops(32, options), *inputs)
    for direction, row in rows.items():
        row["difference"] = difference(calls[direction](), reference[direction][0]())
    return rows


def in_process(form, chunk, arguments):
    command = [sys.executable, __file__, *arguments, "--only", form, str(chunk)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return done.stderr.strip().splitlines()[-1]
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--boxes", type=int, default=1000)
    parser.add_argument("--channels", type=int, default=256)
    parser.add_argument("--height", type=int, default=800, help="height of the image")
    parser.add_argument("--width", type=int, default=1333)
    parser.add_argument("--output-size", type=int, default=7)
    parser.add_argument("--sampling-ratio", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5, help="number of measured rounds")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        form, chunk = options.only
        print(json.dumps(measure(form, int(chunk) if chunk != "None" else None, options)))
        return

    print(
        f"{options.boxes} boxes, {options.channels} channels, image {options.height} x "
        f"{options.width}, output {options.output_size} x {options.output_size}, "
        f"sampling ratio {options.sampling_ratio}"
    )
    print(
        f"{'form':12}{'chunk':>6}  {'':9}{'ms':>8}{'peak MB':>9}{'temp MB':>9}{'out MB':>8}  diff"
    )
    for form in options.forms:
        for chunk in FORMS[form]:
            rows = in_process(form, chunk, sys.argv[1:])
            if isinstance(rows, str):
                print(f"{form:12}{chunk or '':>6}  did not run: {rows}", flush=True)
                continue
            for direction, row in rows.items():
                sizes = (row[name] / 1e6 for name in ("peak", "temporary", "output"))
                peak, temporary, output = (f"{size:.0f}" for size in sizes)
                print(
                    f"{form:12}{chunk or '':>6}  {direction:9}{row['ms']:8.1f}{peak:>9}"
                    f"{temporary:>9}{output:>8}  {row['difference']:.0e}",
                    flush=True,
                )
    print(machine("torch", "torchvision"))


if __name__ == "__main__":
    main()
