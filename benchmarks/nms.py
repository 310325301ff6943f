"""Compares non-maximum suppression with other libraries: milliseconds by boxes and batch size.

  python benchmarks/nms.py [--sizes 256 1024 4096 16384] [--batches 1 16] [--rounds 5]

The boxes are random, of 10 to 100 pixels. "spread": few overlap and most are kept; "crowded": many
are suppressed. The functions return all kept boxes ("all"), or at most 300. `jaxvision.ops.nms` is
compared with its other tile sizes, with two other exact forms (an argmax scan over the result, and
the whole suppression matrix resolved at once), with a numpy loop, OpenCV's `dnn.NMSBoxes` and, if
its operators load, torchvision's `nms`. These last three take one image at a time and have no
limit, so they have one time for both. A batch of 16 is 16 calls for them. Forms that are far too
slow for a size are omitted.
"""

import argparse
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from timing import machine, median_ms

from jaxvision.ops import box_iou, nms
from jaxvision.ops.suppression import _suppress

IOU_THRESHOLD = 0.5


def make_boxes(kind, batch, count, seed=0):
    """Makes boxes f32[batch, count, 4] and distinct scores f32[batch, count] above 0."""
    rng = np.random.default_rng(seed)
    # A box has about 3,000 square pixels.
    area = count * (30_000 if kind == "spread" else 500)
    corner = rng.uniform(0, area**0.5, (batch, count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(10, 100, (batch, count, 2))], axis=2)
    scores = np.stack([rng.permutation(count) + 1 for _ in range(batch)]) / count
    return boxes.astype(np.float32), scores.astype(np.float32)


def tiled(boxes, scores, *, limit, tile):
    limit, tile = min(limit, scores.size), min(tile, scores.size)
    return _suppress(boxes, scores, None, jnp.float32(IOU_THRESHOLD), limit=limit, tile=tile)


def argmax_scan(boxes, scores, *, limit):
    """Takes the best remaining box in each step; there are as many steps as results."""

    def choose(scores, _):
        best = jnp.argmax(scores)
        suppressed = box_iou(boxes[best][None], boxes)[0] > IOU_THRESHOLD
        valid = scores[best] > -jnp.inf
        return jnp.where(suppressed, -jnp.inf, scores).at[best].set(-jnp.inf), (best, valid)

    return lax.scan(choose, scores, length=min(limit, scores.size))[1]


def whole_matrix(boxes, scores, *, limit):
    """Computes the suppression of all pairs at once, repeated until nothing changes."""
    order = jnp.argsort(-scores)
    suppresses = jnp.triu(box_iou(boxes[order], boxes[order]) > IOU_THRESHOLD, 1)

    def resolve(state):
        kept, _ = state
        after = ~(suppresses & kept[:, None]).any(axis=0)
        return after, (after != kept).any()

    everything = jnp.ones(scores.shape, bool), jnp.array(True)
    kept, _ = lax.while_loop(lambda state: state[1], resolve, everything)
    first = jnp.argsort(~kept)[:limit]
    return order[first], kept[first]


def numpy_loop(boxes, scores):
    order = np.argsort(-scores, kind="stable")
    x1, y1, x2, y2 = boxes.T
    area = (x2 - x1) * (y2 - y1)
    kept = []
    while order.size:
        best, order = order[0], order[1:]
        kept.append(best)
        w = np.minimum(x2[best], x2[order]) - np.maximum(x1[best], x1[order])
        h = np.minimum(y2[best], y2[order]) - np.maximum(y1[best], y1[order])
        both = np.maximum(w, 0) * np.maximum(h, 0)
        order = order[both / (area[best] + area[order] - both) <= IOU_THRESHOLD]
    return kept


def opencv():
    """Returns a function (boxes, scores) -> indices, or None without OpenCV."""
    try:
        from cv2.dnn import NMSBoxes
    except ImportError:
        return None

    def run(boxes, scores):
        return NMSBoxes(boxes, scores, 0.0, IOU_THRESHOLD)

    return run


def torchvision():
    """Returns a function (boxes, scores) -> indices, or None without torchvision's operators.

    It runs on torch's GPU, if there is one.
    """
    try:
        import torch
        from torchvision.ops import nms as torchvision_nms

        device = "cuda" if torch.cuda.is_available() else "cpu"
        torchvision_nms(torch.zeros(1, 4, device=device), torch.zeros(1, device=device), 0.5)
    except (ImportError, RuntimeError, NotImplementedError, AttributeError):
        return None

    def run(boxes, scores):
        boxes, scores = (torch.as_tensor(x, device=device) for x in (boxes, scores))
        return torchvision_nms(boxes, scores, IOU_THRESHOLD).cpu().numpy()

    return run


def ours(form, boxes, scores, limit):
    """Returns a function that runs a jitted, vmapped form on arrays that are on the device."""
    kernel = jax.jit(jax.vmap(partial(form, limit=limit)))
    arguments = jax.device_put((boxes, scores))
    return lambda: jax.block_until_ready(kernel(*arguments))


def library(boxes, scores, *, limit):
    return nms(boxes, scores, iou_threshold=IOU_THRESHOLD, max_detections=limit)


def measure(kind, batch, count, rounds):
    """Returns (median milliseconds by column, number of boxes kept in the first image)."""
    boxes, scores = make_boxes(kind, batch, count)
    xywh = np.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], axis=2)
    calls = {}
    for name, limit in (("all", count), ("300", min(300, count))):
        calls[f"ours {name}"] = ours(library, boxes, scores, limit)
        for tile in (128, 256, 512, 4096):
            if tile < count * 2:
                form = partial(tiled, tile=tile)
                calls[f"tile {tile} {name}"] = ours(form, boxes, scores, limit)
        if batch * count * limit <= 2**25:
            calls[f"argmax {name}"] = ours(argmax_scan, boxes, scores, limit)
        if batch * count**2 <= 2**26:
            calls[f"matrix {name}"] = ours(whole_matrix, boxes, scores, limit)
    others = {"numpy": (numpy_loop, boxes)}
    if run := opencv():
        others["NMSBoxes"] = run, xywh
    if run := torchvision():
        others["torchvision"] = run, boxes
    for name, (run, boxes_of) in others.items():

        def one_by_one(run=run, boxes_of=boxes_of):
            for b, s in zip(boxes_of, scores, strict=True):
                run(b, s)

        calls[name] = one_by_one
    times = median_ms(calls, rounds=rounds, warmup=1)

    kept = np.asarray(numpy_loop(boxes[0], scores[0]))
    for limit in (count, min(300, count)):
        indices, valid = library(boxes[0], scores[0], limit=limit)
        np.testing.assert_array_equal(indices[valid], kept[:limit])
    return times, len(kept)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 1024, 4096, 16384])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--kinds", nargs="+", default=["spread", "crowded"])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for name, missing in (("OpenCV", opencv() is None), ("torchvision", torchvision() is None)):
        if missing:
            print(f"# {name} is not installed, or its operators do not load: omitted")
    for kind in options.kinds:
        for batch in options.batches:
            for count in options.sizes:
                # One round is enough for the slow cases.
                rounds = options.rounds if batch * count < 2**17 else 1
                times, kept = measure(kind, batch, count, rounds)
                print(f"{kind}, batch {batch}, {count} boxes ({kept} kept):")
                for name in ("ours all", "ours 300"):
                    ratios = [
                        f"{other} {times[other] / times[name]:.1f} x"
                        for other in ("numpy", "NMSBoxes", "torchvision")
                        if other in times
                    ]
                    print(f"  {name:>14} {times.pop(name):10.2f} ms   {', '.join(ratios)}")
                for name, ms in times.items():
                    print(f"  {name:>14} {ms:10.2f} ms", flush=True)
    print(machine("opencv-contrib-python-headless", "torchvision"))


if __name__ == "__main__":
    main()
