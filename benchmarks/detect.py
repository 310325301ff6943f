"""Measures prediction from uint8 images to padded detections, and the cost of suppression in it.

  python benchmarks/detect.py [--models yolov2_tiny yolov2 yolov3] [--size 416] [--batches 1 8]
  python benchmarks/detect.py --torchvision [--models ssd300_vgg16]

Weights and images are random. The work of suppression depends on how many scores are above the
threshold. So the threshold is chosen such that the number of pairs of a box and a class in an image
is that in the column "pairs": some tens for finding objects (a score of 0.3), thousands for average
precision (0.005), of which the best 1,000 are used. The share is 1 - t / T, with T the time of the
whole function and t that without suppression, measured alternately. "alone" is the time of
suppression as a separate function, which reads its candidates from memory.

--torchvision compares one photograph's detection with torchvision's networks, at the sizes of its
published weights: "whole / convolutions" is our time from normalised images to detections, divided
by the time of torchvision's backbone and heads alone, without its post-processing. The share is
that of our post-processing (decoding and suppression) in the whole.
"""

import argparse
import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
from backbones import torchvision_models
from timing import machine, median_ms
from versus_torch import torch

from jaxvision.core import ImageBatch
from jaxvision.models import create_model
from jaxvision.tasks import DetectOptions, detect, detectors
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


# Height and width of a padded photograph.
ONE_STAGE = {
    "retinanet_resnet50_fpn": (800, 1088),
    "ssd300_vgg16": (300, 300),
    "ssdlite320_mobilenet_v3_large": (320, 320),
}


def compare(theirs, name, size, pairs, rounds):
    """Measures milliseconds of our whole, of ours without decoding, and of torchvision's maps."""
    family = getattr(detectors, "retinanet" if "retinanet" in name else "ssd")
    model, images = create_model(name), jnp.zeros((1, *size, 3))
    variables = jax.jit(lambda: model.init(jax.random.key(0), images, train=False))()
    images = jax.random.normal(jax.random.key(1), images.shape)

    def maps_of(variables, images):
        return model.apply(variables, images, train=False)

    def scores_of(maps):
        logits = [x for key, x in maps.items() if key.startswith("cls_logits")]
        rows = jnp.concatenate([x.reshape(-1, x.shape[-1]) for x in logits])
        return jax.nn.sigmoid(rows) if "retinanet" in name else jax.nn.softmax(rows)[:, 1:]

    scores = np.asarray(jax.jit(lambda v, x: scores_of(maps_of(v, x)))(variables, images))
    threshold = float(np.sort(scores.ravel())[-pairs])
    default = inspect.signature(family).parameters["decode"].default
    options = dataclasses.replace(default, score_threshold=threshold)
    decode = family(model, loss=None, decode=options).decode
    extent = jnp.array([size], jnp.int32)

    def whole(variables, images):
        batch = ImageBatch(image=images, mask=jnp.ones(1, bool), extent=extent)
        return jax.vmap(decode)(maps_of(variables, images), batch)

    network = getattr(theirs, name)(weights=None, weights_backbone=None).eval()
    given = torch.from_numpy(np.array(images).transpose(0, 3, 1, 2).copy())

    def maps_of_torch():
        with torch.no_grad():
            maps = network.backbone(given)
            network.head(list(maps.values()))

    both, without = jax.jit(whole), jax.jit(maps_of)
    return median_ms(
        {
            "whole": lambda: jax.block_until_ready(both(variables, images)),
            "without": lambda: jax.block_until_ready(without(variables, images)),
            "theirs": maps_of_torch,
        },
        rounds=rounds,
    )


def versus_torchvision(names, rounds, pairs):
    models = torchvision_models()
    if models is None:
        raise SystemExit("torchvision is not installed: pip install torch torchvision")
    print("network                         ms, ours   whole / convolutions   share of the rest")
    for name in names:
        ms = compare(models.detection, name, ONE_STAGE[name], pairs, rounds)
        rest = 1 - ms["without"] / ms["whole"]
        print(
            f"{name:<30} {ms['whole']:>9.1f} {ms['whole'] / ms['theirs']:>22.2f} {rest:>19.1%}",
            flush=True,
        )
    print(f"{pairs} pairs of a box and a class above the threshold, {rounds} rounds; {machine()}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", help="networks; default: all of the table")
    parser.add_argument("--size", type=int, default=416)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--pairs", type=int, nargs="+", default=[50, 5000])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--torchvision", action="store_true", help="compare with torchvision")
    options = parser.parse_args()
    if options.torchvision:
        versus_torchvision(options.models or ONE_STAGE, options.rounds, max(options.pairs))
        return
    print("model         batch   pairs   images/s   ms an image   share of suppression   alone ms")
    for name in options.models or ("yolov2_tiny", "yolov2", "yolov3"):
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
