"""Measures how far targets of the mask head are off if masks are cropped to M x M cells.

  python benchmarks/mask_targets.py [--cells 28 56 112] [--sides 32 64 128 256 512] [--count 64]

Objects are random star-shaped outlines with some lobes and a hole, of a mean diameter of --sides
pixels, in an image of --height x --width pixels; proposals are their boxes with each side moved by
up to a tenth of their size. The columns are of `jaxvision.losses.mask_rcnn.mask_targets`, with 28 x
28 bins and as many samples as torchvision takes, of the cropped masks against the whole masks: the
largest and the mean difference of a bin, the share of bins that are on the other side of 1/2, and
the lowest IoU of an object's bins that are at least 1/2. The last lines are the median milliseconds
for 128 proposals.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from timing import machine, median_ms

from jaxvision.losses.mask_rcnn import mask_targets
from jaxvision.ops import crop_mask


def star(rng, side, size):
    """A mask with lobes of several sizes and a hole, bool[H, W]."""
    height, width = size
    centre = rng.uniform(0.6 * side, np.maximum(np.array(size) - 0.6 * side, 0.6 * side + 1))
    y, x = np.mgrid[:height, :width] + 0.5
    y, x = y - centre[0], x - centre[1]
    angle, radius = np.arctan2(y, x), np.hypot(y, x)
    outline = np.ones(size)
    for lobes in (2, 3, 5, 9, 17):
        outline += rng.normal(0, 0.5 / lobes) * np.cos(lobes * angle + rng.uniform(0, 6.3))
    hole = np.hypot(y - 0.1 * side, x) < 0.1 * side
    return (radius < side / 2 * np.clip(outline, 0.2, 2)) & ~hole


def objects(rng, count, side, size):
    """Masks, bool[count, H, W], and proposals, f32[count, 4]."""
    masks = np.stack([star(rng, side, size) for _ in range(count)])
    boxes = np.stack([crop_mask(mask, 1)[1] for mask in masks])
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    proposals = boxes + rng.uniform(-0.1, 0.1, boxes.shape) * sides
    return masks, np.clip(proposals, 0, np.tile(size[::-1], 2)).astype(np.float32)


def cropped(masks, cells):
    found, frames = zip(*(crop_mask(mask, cells) for mask in masks), strict=True)
    return np.stack(found), np.float32(frames)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cells", type=int, nargs="+", default=[28, 56, 112])
    parser.add_argument("--sides", type=int, nargs="+", default=[32, 64, 128, 256, 512])
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--height", type=int, default=800)
    parser.add_argument("--width", type=int, default=1088)
    options = parser.parse_args()
    size = options.height, options.width
    rng, matches = np.random.default_rng(0), jnp.arange(options.count)
    print("cells  side  largest    mean  other side  least IoU")
    targets = jax.jit(mask_targets)
    for side in options.sides:
        masks, proposals = objects(rng, options.count, side, size)
        whole = np.asarray(targets(masks, proposals, matches))
        for cells in options.cells:
            found, frames = cropped(masks, cells)
            near = np.asarray(targets(found, proposals, matches, frames, np.array(size)))
            off, a, b = np.abs(near - whole), near >= 0.5, whole >= 0.5
            iou = ((a & b).sum((1, 2)) / (a | b).sum((1, 2))).min()
            print(
                f"{cells:5} {side:5} {off.max():8.3f} {off.mean():7.4f} {(a != b).mean():11.4f} "
                f"{iou:10.3f}"
            )
    proposals, matches = np.resize(proposals, (128, 4)), jnp.arange(128) % options.count
    calls = {"whole masks": (masks, proposals, matches)}
    for cells in options.cells:
        found, frames = cropped(masks, cells)
        calls[f"{cells} cells"] = (found, proposals, matches, frames, np.array(size))

    def call(arrays):
        return lambda: targets(*arrays).block_until_ready()

    times = median_ms({name: call(arrays) for name, arrays in calls.items()}, rounds=3, warmup=1)
    for name, time in times.items():
        print(f"{name}: {time:.1f} ms")
    print(machine())


if __name__ == "__main__":
    main()
