"""Measures prediction from uint8 images to padded detections, and the cost of suppression in it.

  python benchmarks/detect.py [--models yolov2_tiny yolov2 yolov3] [--size 416] [--batches 1 8]

Weights and images are random. The work of suppression depends on how many scores are above the
threshold. So the threshold is chosen such that the number of pairs of a box and a class in an image
is that in the column "pairs": some tens for finding objects (a score of 0.3), thousands for average
precision (0.005), of which the best 1,000 are used. The share is 1 - t / T, with T the time of the
whole function and t that without suppression, measured alternately. "alone" is the time of
suppression as a separate function, which reads its candidates from memory.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from timing import machine, median_ms

from jaxvision.models import create_model
from jaxvision.tasks import DetectOptions, detect
from jaxvision.tasks.detectors import yolov2_candidates, yolov3_candidates

ANCHORS = np.float32([[42, 55], [102, 128], [162, 259], [303, 155], [360, 320]])
PYRAMID = np.float32(
    [
        [[116, 90], [156, 198], [373, 326]],
        [[30, 61], [62, 45], [59, 119]],
        [[10, 13], [16, 30], [33, 23]],
    ]
)


def candidates_of(maps):
    """Returns the candidates of one image, for YOLOv2 or YOLOv3."""
    if "logits" in maps:
        return yolov2_candidates(maps["logits"], ANCHORS, stride=32)
    levels = sorted(maps, reverse=True)  # logits5, logits4, ...
    strides = tuple(2 ** int(name[-1]) for name in levels)
    anchors = list(PYRAMID[: len(levels)])
    return yolov3_candidates([maps[name] for name in levels], anchors, strides=strides)


def measure(name, size, batch, pairs, rounds):
    """Measures milliseconds of everything, without suppression, and of suppression alone."""
    model = create_model(name, num_classes=80)
    images = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), np.uint8)
    images = jax.device_put(images)
    variables = jax.jit(lambda: model.init(jax.random.key(0), images / 255, train=False))()

    def found(variables, images):
        maps = model.apply(variables, images / jnp.float32(255), train=False)
        return jax.vmap(candidates_of)(maps)

    boxes, scores = jax.jit(found)(variables, images)
    ranked = np.sort(np.asarray(scores[0]).ravel())
    threshold = float(ranked[-min(pairs, ranked.size - 1) - 1])

    options = DetectOptions(score_threshold=threshold)

    def suppressed(boxes, scores):
        def one(boxes, scores):
            return detect(boxes, scores, image_size=(size, size), options=options)

        return jax.vmap(one)(boxes, scores)

    whole = jax.jit(lambda variables, images: suppressed(*found(variables, images)))
    without, alone = jax.jit(found), jax.jit(suppressed)
    return median_ms(
        {
            "whole": lambda: jax.block_until_ready(whole(variables, images)),
            "without": lambda: jax.block_until_ready(without(variables, images)),
            "alone": lambda: jax.block_until_ready(alone(boxes, scores)),
        },
        rounds=rounds,
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["yolov2_tiny", "yolov2", "yolov3"])
    parser.add_argument("--size", type=int, default=416)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--pairs", type=int, nargs="+", default=[50, 5000])
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    print("model         batch   pairs   images/s   ms an image   share of suppression   alone ms")
    for name in options.models:
        for batch in options.batches:
            for pairs in options.pairs:
                ms = measure(name, options.size, batch, pairs, options.rounds)
                share = 1 - ms["without"] / ms["whole"]
                print(
                    f"{name:<12} {batch:>6} {pairs:>7} {1e3 * batch / ms['whole']:>10.1f} "
                    f"{ms['whole'] / batch:>13.2f} {share:>22.1%} {ms['alone']:>10.2f}",
                    flush=True,
                )
    print(f"{options.size} x {options.size}, 80 classes, {options.rounds} rounds; {machine()}")


if __name__ == "__main__":
    main()
