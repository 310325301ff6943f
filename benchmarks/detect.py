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
by the time of torchvision's convolutions and matrix products alone, those of the backbone and the
heads. In two-stage networks these are the head of the proposals and, on random features of 1,000
boxes and of 100 detections, the heads of boxes and of masks. Torchvision's time has no anchors,
RoIAlign, decoding or suppression in it. Ours has all of this, and masks of 28 x 28 cells. "rest" is
the share of decoding and suppression in our whole: of all but the network, which is measured with
the same proposals and detections. "RoIAlign", which is a part of the network, is its time alone,
for all heads, divided by the whole.
"""

import argparse
import dataclasses
import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
from timing import machine, median_ms
from versus_torch import import_torchvision, torch

from jaxvision.core import ImageBatch
from jaxvision.models import create_model
from jaxvision.ops import multilevel_roi_align
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
COMPARED = {
    "retinanet_resnet50_fpn": (800, 1088),
    "ssd300_vgg16": (300, 300),
    "ssdlite320_mobilenet_v3_large": (320, 320),
    "fasterrcnn_resnet50_fpn": (800, 1088),
    "maskrcnn_resnet50_fpn": (800, 1088),
}
# Boxes are pooled from maps with strides of 2^level.
LEVELS = (2, 3, 4, 5)
FAMILIES = {"retinanet": "retinanet", "ssd": "ssd", "rcnn": "faster_rcnn"}


def ready(function, *arrays):
    """Returns a call that computes a compiled function and waits for it."""
    compiled = jax.jit(function)
    return lambda: jax.block_until_ready(compiled(*arrays))


def scores_of(name, outputs):
    """Returns the scores of all pairs of a box and a class."""
    logits = [x for key, x in outputs.items() if key.startswith(("cls_logits", "class_logits"))]
    rows = jnp.concatenate([x.reshape(-1, x.shape[-1]) for x in logits])
    return jax.nn.sigmoid(rows) if "retinanet" in name else jax.nn.softmax(rows)[:, 1:]


def ours(name, size, pairs):
    """Returns the calls to measure: our whole, the network, and RoIAlign if it has two stages."""
    family = getattr(detectors, next(x for key, x in FAMILIES.items() if key in name))
    model, images = create_model(name), jnp.zeros((1, *size, 3))
    variables = jax.jit(lambda: model.init(jax.random.key(0), images, train=False))()
    if family is detectors.faster_rcnn:
        # So that proposals are near their anchors, as those of trained networks.
        variables["params"]["rpn_head"]["bbox_pred"]["kernel"] *= 0.1
    images = jax.random.normal(jax.random.key(1), images.shape)

    def network(variables, images, **between_stages):
        return model.apply(variables, images, train=False, **between_stages)

    found = jax.jit(network)(variables, images)
    threshold = float(jnp.sort(scores_of(name, found).ravel())[-pairs])
    default = inspect.signature(family).parameters["decode"].default
    options = dataclasses.replace(default, score_threshold=threshold)
    detector = family(model, loss=None, decode=options)
    extent = jnp.array([size], jnp.int32)

    def whole(variables, images):
        batch = ImageBatch(image=images, mask=jnp.ones(1, bool), extent=extent)
        given = {} if detector.given is None else detector.given(batch, None)
        outputs = network(variables, images, **given)
        return jax.vmap(detector.decode)(outputs, batch)

    calls = {"whole": ready(whole, variables, images)}
    detections = calls["whole"]()
    if not detections.valid.all():
        raise SystemExit(f"{name}: {int(detections.valid.sum())} detections: give more --pairs")
    if family is not detectors.faster_rcnn:
        return calls | {"network": ready(network, variables, images)}
    proposals, boxes = found["proposals"], detections.boxes

    def with_given(variables, images, proposals, boxes):
        propose, detect = (lambda _: {"proposals": proposals}), (lambda *_: {"boxes": boxes})
        return network(variables, images, propose=propose, detect=detect)

    def features(maps, proposals, boxes):
        how = {"spatial_scales": [2.0**-n for n in LEVELS], "aligned": model.aligned}
        pool = functools.partial(multilevel_roi_align, **how)
        of_proposals = pool(maps, proposals[0], output_size=model.box_size)
        if model.mask_head is None:
            return of_proposals
        return of_proposals, pool(maps, boxes[0], output_size=model.region_size)

    maps = [jnp.ones((*(-(-side // 2**n) for side in size), model.features)) for n in LEVELS]
    return calls | {
        "network": ready(with_given, variables, images, proposals, boxes),
        "RoIAlign": ready(features, maps, proposals, boxes),
    }


def torchvisions(theirs, name, size):
    """Returns the call of torchvision's convolutions and matrix products."""
    network = getattr(theirs, name)(weights=None, weights_backbone=None).eval()
    images = torch.randn(1, 3, *size)
    of_boxes, of_masks = torch.rand(1000, 256, 7, 7), torch.rand(100, 256, 14, 14)

    def call():
        with torch.no_grad():
            maps = list(network.backbone(images).values())
            if "rcnn" not in name:
                network.head(maps)
                return
            network.rpn.head(maps)
            heads = network.roi_heads
            heads.box_predictor(heads.box_head(of_boxes))
            if heads.has_mask():
                heads.mask_predictor(heads.mask_head(of_masks))

    return call


def versus_torchvision(names, size, rounds, pairs):
    models = import_torchvision("models")
    if models is None:
        raise SystemExit("torchvision is not installed: pip install torch torchvision")
    print("network                         ms, ours   whole / convolutions    rest   RoIAlign")
    for name in names:
        shape = (size, size) if size else COMPARED[name]
        calls = ours(name, shape, pairs)
        ms = median_ms(
            {**calls, "theirs": torchvisions(models.detection, name, shape)}, rounds=rounds
        )
        whole = ms["whole"]
        align = f"{ms['RoIAlign'] / whole:.1%}" if "RoIAlign" in ms else "-"
        print(
            f"{name:<30} {whole:>9.1f} {whole / ms['theirs']:>22.2f} "
            f"{1 - ms['network'] / whole:>7.1%} {align:>10}",
            flush=True,
        )
    print(f"{pairs} pairs of a box and a class above the threshold, {rounds} rounds; {machine()}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", help="networks; default: all of the table")
    parser.add_argument("--size", type=int, help="default: 416, or that of torchvision's weights")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--pairs", type=int, nargs="+", default=[50, 5000])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--torchvision", action="store_true", help="compare with torchvision")
    options = parser.parse_args()
    if options.torchvision:
        names = options.models or COMPARED
        versus_torchvision(names, options.size, options.rounds, max(options.pairs))
        return
    size = options.size or 416
    print("model         batch   pairs   images/s   ms an image   share of suppression   alone ms")
    for name in options.models or ("yolov2_tiny", "yolov2", "yolov3"):
        for batch in options.batches:
            for pairs in options.pairs:
                ms = measure(name, size, batch, pairs, options.rounds)
                share = 1 - ms["without"] / ms["whole"]
                print(
                    f"{name:<12} {batch:>6} {pairs:>7} {1e3 * batch / ms['whole']:>10.1f} "
                    f"{ms['whole'] / batch:>13.2f} {share:>22.1%} {ms['alone']:>10.2f}",
                    flush=True,
                )
    print(f"{size} x {size}, 80 classes, {options.rounds} rounds; {machine()}")


if __name__ == "__main__":
    main()
