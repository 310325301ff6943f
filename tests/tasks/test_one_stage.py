"""RetinaNet, FCOS and SSD as detectors: losses and detections as torchvision's, records, errors."""

import contextlib
import dataclasses
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxvision.core import InputError, Inputs, OptionError, divide, sum_terms
from jaxvision.ops import SSD300, SSD300_TORCHVISION, SSD512, SSDLITE320, ssd_default_boxes
from jaxvision.tasks import DetectOptions, detection, detectors
from jaxvision.tasks.detectors import (
    FCOS_DECODE,
    RETINANET_DECODE,
    SSD_DECODE,
    fcos,
    retinanet,
    ssd,
)
from jaxvision.tasks.freezing import frozen_parameters
from tests.marks import long_but, slow_but
from tests.models.torchvision_ops import import_detection
from tests.ops.parity import import_torchvision
from tests.tasks.one_stage import (
    KINDS,
    OneStage,
    example_of,
    feature_sizes,
    random_outputs,
    shapes_of,
    stacked,
    with_area,
)

CLASSES = 4
SIZE = (160, 192)  # P6 and P7 have 3x3 and 2x2 cells: strides 53, 64 and 80, 96
SSD_SIZE, SSD_ANCHORS = (96, 128), (4, 6, 4)
SSD_HOW = {
    "scales": (0.2, 0.5, 0.8, 1.0),
    "aspect_ratios": ((2,), (2, 3), (2,)),
    "forced": "best",
}
OBJECTS = [  # of three images, the second of which has none
    ([[10, 20, 80, 90], [70, 30, 110, 90], [12, 22, 76, 92]], [1, 3, 0]),
    ([], []),
    ([[20, 5, 60, 95]], [2]),
]
FAMILIES = {
    "retinanet": (retinanet, SIZE, 9, 5, {}),
    "retinanet_giou": (retinanet, SIZE, 9, 5, {"box_loss": "giou"}),
    "fcos": (fcos, SIZE, 1, 5, {}),
    "ssd": (ssd, SSD_SIZE, SSD_ANCHORS, 3, SSD_HOW),
}


def family_of(name):
    return name.removesuffix("_giou")


def detector_of(name, **more):
    """A detector of a family with a stand-in for its network."""
    constructor, _, anchors, maps, how = FAMILIES[name]
    model = OneStage(family_of(name), CLASSES, anchors, maps)
    return constructor(model, **{**how, **more})


def outputs_of(name, seed):
    _, size, anchors, maps, _ = FAMILIES[name]
    family = family_of(name)
    shapes = shapes_of(family, size, maps, CLASSES, anchors)
    return random_outputs(shapes, np.random.default_rng(seed), relu=family == "fcos")


def batch_of(name):
    """(outputs, examples) of three images, stacked."""
    size = FAMILIES[name][1]
    extents = [size, (size[0] - 10, size[1] - 7), (size[0], size[1] - 31)]
    examples = [
        example_of(size, boxes, labels, extent=extent)
        for (boxes, labels), extent in zip(OBJECTS, extents, strict=True)
    ]
    return stacked([outputs_of(name, seed) for seed in range(3)]), stacked(examples)


def summed(loss, outputs, examples):
    """The terms of a batch and its sums."""

    def terms_of(outputs, example):
        return loss(outputs, example, key=jax.random.key(0), step=0)

    terms = sum_terms(jax.vmap(terms_of)(outputs, examples), examples.mask)
    return {name: divide(*pair) for name, pair in terms.items()}


# Torchvision


class Theirs:
    """Torchvision's functions of a family, on given outputs of the network."""

    def __init__(self, name):
        family = family_of(name)
        self.family, (_, self.size, _, self.maps, _) = family, FAMILIES[name]
        self.torch, self.module = import_detection(family)
        _, self.utils = import_detection("_utils")
        _, anchor_utils = import_detection("anchor_utils")
        options = {"retinanet": RETINANET_DECODE, "fcos": FCOS_DECODE, "ssd": SSD_DECODE}[family]
        how = {
            "score_thresh": options.score_threshold,
            "nms_thresh": options.iou_threshold,
            "detections_per_img": options.max_detections,
            "topk_candidates": options.max_candidates,
        }
        if family == "retinanet":
            head = self.module.RetinaNetHead(8, 9, CLASSES)
            head.regression_head._loss_type = "giou" if name.endswith("giou") else "l1"
            how |= {
                "head": head,
                "box_coder": self.utils.BoxCoder((1.0, 1.0, 1.0, 1.0)),
                "proposal_matcher": self.utils.Matcher(0.5, 0.4, allow_low_quality_matches=True),
            }
            self.generator = self.module._default_anchorgen()
        elif family == "fcos":
            how |= {
                "head": self.module.FCOSHead(32, 1, CLASSES, 1),
                "box_coder": self.utils.BoxLinearCoder(),
                "center_sampling_radius": 1.5,
            }
            sides = tuple((side,) for side in (8, 16, 32, 64, 128))
            self.generator = anchor_utils.AnchorGenerator(sides, ((1.0,),) * 5)
        else:
            how |= {
                "box_coder": self.utils.BoxCoder((10.0, 10.0, 5.0, 5.0)),
                "neg_to_pos_ratio": 3,
            }
            ratios = [list(x) for x in SSD_HOW["aspect_ratios"]]
            self.generator = anchor_utils.DefaultBoxGenerator(ratios, scales=SSD_HOW["scales"])
            # They are of 32 bits whatever the network is.
            wide = self.generator._generate_wh_pairs(len(ratios), dtype=self.torch.float64)
            self.generator._wh_pairs = wide
        self.model = types.SimpleNamespace(**how)

    def anchors(self):
        """Of all maps, f64."""
        _, image_list = import_torchvision("models.detection.image_list")
        image = self.torch.zeros(1, 3, *self.size)
        sizes = feature_sizes(self.size, self.maps)
        maps = [self.torch.zeros(1, 1, *size, dtype=self.torch.float64) for size in sizes]
        with self.wide():
            return self.generator(image_list.ImageList(image, [self.size]), maps)[0].double()

    @contextlib.contextmanager
    def wide(self):
        self.torch.set_default_dtype(self.torch.float64)
        yield
        self.torch.set_default_dtype(self.torch.float32)

    def heads(self, outputs):
        """Kind -> [B, N, depth] for each map, from ours."""
        result = {}
        for kind in KINDS[self.family]:
            maps = [outputs[f"{kind}{number}"] for number in range(self.maps)]
            depth = 1 if kind == "bbox_ctrness" else maps[0].shape[-1]
            result[kind] = [x.reshape(len(x), -1, depth) for x in maps]
        return result

    def targets(self):
        def target(boxes, labels):
            wide = self.torch.tensor(boxes, dtype=self.torch.float64).reshape(-1, 4)
            classes = self.torch.tensor(labels, dtype=self.torch.int64)
            return {"boxes": wide, "labels": classes + (self.family == "ssd")}

        return [target(*each) for each in OBJECTS]

    def losses(self, outputs):
        """In our order of names: classification, box, centre-ness."""
        heads = self.heads(outputs)
        whole = {kind: self.torch.cat(maps, dim=1) for kind, maps in heads.items()}
        anchors, targets = self.anchors(), self.targets()
        arguments = [targets, whole, [anchors] * len(targets)]
        if self.family == "fcos":
            arguments.append([x.shape[1] for x in heads["cls_logits"]])
        if self.family == "ssd":
            matcher, iou = self.utils.SSDMatcher(0.5), import_torchvision("ops.boxes")[1].box_iou
            nothing = self.torch.full((len(anchors),), -1)
            arguments.append(
                [
                    matcher(iou(each["boxes"], anchors)) if len(each["boxes"]) else nothing
                    for each in targets
                ]
            )
            kind = self.module.SSD
        else:
            kind = {"retinanet": "RetinaNet", "fcos": "FCOS"}[self.family]
            kind = getattr(self.module, kind)
        found = kind.compute_loss(self.model, *arguments)
        names = {"classification": "classification", "box": "bbox_regression"}
        if self.family == "fcos":
            names["centerness"] = "bbox_ctrness"
        return {ours: found[theirs] for ours, theirs in names.items()}

    def detections(self, outputs, extents, **options):
        heads, anchors = self.heads(outputs), self.anchors()
        model = types.SimpleNamespace(**{**vars(self.model), **options})
        if self.family == "ssd":
            heads = {kind: self.torch.cat(maps, dim=1) for kind, maps in heads.items()}
            of_images = [anchors] * len(extents)
            kind = self.module.SSD
        else:
            counts = [x.shape[1] for x in heads["cls_logits"]]
            of_images = [list(anchors.split(counts))] * len(extents)
            kind = {"retinanet": "RetinaNet", "fcos": "FCOS"}[self.family]
            kind = getattr(self.module, kind)
        return kind.postprocess_detections(model, heads, of_images, extents)


@pytest.mark.parity
@pytest.mark.parametrize("name", FAMILIES)
def test_losses_and_gradients_equal_torchvisions(name):
    """Over a batch with uneven numbers of objects, an image without any in it; in 64 bits."""
    theirs = Theirs(name)
    with jax.enable_x64():
        outputs, examples = batch_of(name)
        loss = detector_of(name).loss

        @jax.jit
        def run(outputs):
            def total(outputs):
                shares = summed(loss, outputs, examples)
                return sum(shares.values()), shares

            return jax.grad(total, has_aux=True)(outputs)

        gradients, shares = jax.device_get(run(outputs))
        of_torch = {
            key: theirs.torch.tensor(np.asarray(x), requires_grad=True)
            for key, x in outputs.items()
        }
        expected = theirs.losses(of_torch)
        sum(expected.values()).backward()
    assert shares.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(shares[key], value.item(), rtol=1e-9, err_msg=key)
    for key, gradient in gradients.items():
        assert np.isfinite(gradient).all()
        theirs_of_key = of_torch[key].grad.numpy()
        if name == "fcos" and "regression" in key:
            # A distance of 0 is that of the network's ReLU, through which no gradient flows.
            flows = np.asarray(outputs[key]) > 0
            gradient, theirs_of_key = gradient * flows, theirs_of_key * flows
        np.testing.assert_allclose(gradient, theirs_of_key, rtol=1e-7, atol=1e-10, err_msg=key)


@pytest.mark.parity
@pytest.mark.parametrize("name", ["retinanet", "fcos", "ssd"])
def test_detections_equal_torchvisions(name):
    """The same set, of images with other extents, with few and many candidates; in 64 bits.

    Boxes without an area are left out, see `with_area`.
    """
    theirs = Theirs(name)
    fewer = {"max_candidates": 37, "max_detections": 50}
    with jax.enable_x64():
        outputs, examples = batch_of(name)
        extents = [tuple(x) for x in np.asarray(examples.extent).tolist()]
        of_torch = {key: theirs.torch.tensor(np.asarray(x)) for key, x in outputs.items()}
        for options in ({}, fewer):
            detector = detector_of(name)
            default = {"retinanet": RETINANET_DECODE, "fcos": FCOS_DECODE, "ssd": SSD_DECODE}[name]
            detector = detector_of(name, decode=dataclasses.replace(default, **options))
            found = jax.device_get(jax.jit(jax.vmap(detector.decode))(outputs, examples))
            changed = {"topk_candidates": 37, "detections_per_img": 50} if options else {}
            expected = theirs.detections(of_torch, extents, **changed)
            for image, each in enumerate(expected):
                assert found.valid[image].sum() == len(each["scores"]) >= 40
                each = with_area(each)
                valid = np.arange(len(each["scores"]))
                order = np.argsort(-each["scores"], kind="stable")
                np.testing.assert_allclose(
                    found.scores[image][valid], each["scores"][order], rtol=0, atol=1e-9
                )
                labels = each["labels"][order] - (name == "ssd")
                np.testing.assert_array_equal(found.labels[image][valid], labels)
                np.testing.assert_allclose(
                    found.boxes[image][valid], each["boxes"][order], rtol=0, atol=1e-6
                )


# Without torch


@pytest.mark.parametrize("name", slow_but(FAMILIES, []))
def test_padding_and_images_without_objects_keep_losses_finite_and_the_same(name):
    """More rows of padding change nothing; of no objects the background alone has a loss."""
    size = FAMILIES[name][1]
    loss, outputs = detector_of(name).loss, outputs_of(name, 0)
    outputs = jax.tree.map(np.float32, outputs)

    @jax.jit
    def run(outputs, example):
        def total(outputs):
            terms = loss(outputs, example, key=jax.random.key(0), step=0)
            return sum(total for total, _ in terms.values()), terms

        return jax.grad(total, has_aux=True)(outputs)

    boxes, labels = OBJECTS[0]
    few, many = (
        jax.device_get(run(outputs, example_of(size, boxes, labels, rows=n))) for n in (3, 6)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), few, many)
    gradients, terms = jax.device_get(run(outputs, example_of(size, [], [])))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((gradients, terms)))
    assert terms["box"][0] == 0
    assert (terms["classification"][0] > 0) == (name != "ssd")
    divisor = 1 if name.startswith("retinanet") else 0
    assert {float(weight) for _, weight in terms.values()} == {divisor}


@pytest.mark.slow
def test_detections_end_where_the_image_ends():
    """Boxes are clipped to the extent; what has no area left, as in the padding, is not found."""
    for name in ("retinanet", "fcos", "ssd"):
        size = FAMILIES[name][1]
        outputs = jax.tree.map(np.float32, outputs_of(name, 1))
        example = example_of(size, [], [], extent=(64, 50))
        found = jax.device_get(jax.jit(detector_of(name).decode)(outputs, example))
        boxes = found.boxes[found.valid]
        assert len(boxes) > 20
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert boxes[:, 2].max() == 50
        assert boxes[:, 3].max() == 64
        assert np.array_equal(np.sort(found.scores[found.valid])[::-1], found.scores[found.valid])


def test_the_layouts_of_ssd_have_the_published_default_boxes():
    """Chosen by name or number in a cell, with strides for maps and images of their sizes only."""

    @functools.partial(jax.jit, static_argnums=(0, 1, 2))
    def boxes_of(layout, anchors, size, outputs):
        received = []

        def loss(logits, deltas, boxes, *truth):
            received.append(boxes)
            return logits.sum(), deltas.sum()

        detector = ssd(OneStage("ssd", 1, anchors, len(anchors)), loss=loss, layout=layout)
        detector.loss(outputs, example_of((size, size), [], []), key=None, step=None)
        return received[0]

    found = {}
    few, lite = (4, 6, 6, 6, 4, 4), (6,) * 6
    for name, layout, anchors, size, maps, expected, count in (
        ("ssd300", "", few, 300, (38, 19, 10, 5, 3, 1), SSD300_TORCHVISION, 8732),
        ("paper", "ssd300_paper", few, 300, (38, 19, 10, 5, 3, 1), SSD300, 8732),
        ("ssd512", "", (4, 6, 6, 6, 6, 4, 4), 512, (64, 32, 16, 8, 4, 2, 1), SSD512, 24564),
        ("ssdlite320", "", lite, 320, (20, 10, 5, 3, 2, 1), SSDLITE320, 3234),
        # A backbone whose last map is another one than VGG's: its strides are not used.
        ("resnet", "", few, 300, (38, 19, 10, 5, 3, 2), None, 8744),
    ):
        outputs = {}
        for number, (side, each) in enumerate(zip(maps, anchors, strict=True)):
            outputs[f"cls_logits{number}"] = np.zeros((side, side, each, 2), "f4")
            outputs[f"bbox_regression{number}"] = np.zeros((side, side, each, 4), "f4")
        found[name] = np.asarray(boxes_of(layout, anchors, size, outputs))
        assert found[name].shape == (count, 4)
        if expected is not None:
            published = jax.jit(functools.partial(ssd_default_boxes, **expected))()
            np.testing.assert_allclose(found[name], published, rtol=1e-5, atol=1e-3)
    centres = (found["resnet"][-4:, :2] + found["resnet"][-4:, 2:]) / 2
    np.testing.assert_allclose(centres, 225, rtol=1e-5)
    np.testing.assert_allclose(found["ssd300"][0], [-6.5, -6.5, 14.5, 14.5], rtol=1e-5)
    last = [57.7226, 0, 242.2774, 300]
    np.testing.assert_allclose(found["ssd300"][-1], last, rtol=1e-5, atol=1e-4)


@pytest.mark.slow
def test_stages_of_the_backbone_are_frozen():
    """A map that depends on nothing new is no stage; nor is a map's own scale part of one."""
    model = OneStage()
    stages = [frozen_parameters(model, (64, 64, 3), n) for n in (0, 2, 4)]
    names = [f"backbone/conv{level}" for level in range(4)]
    # The last map of this backbone is used by nothing, so that the network ends with c2.
    assert stages == [tuple(names[:n]) for n in (4, 2, 0)]
    detector = retinanet(model, trainable_backbone_layers=2)
    assert detector.freeze == tuple(names[:2])
    assert detector.origin["loss"][1]["trainable_backbone_layers"] == 2
    task = detection(detector, Inputs((64, 64)), class_names=3)
    assert task.freeze == detector.freeze
    assert retinanet(model, loss=None, trainable_backbone_layers=2).freeze == ()


def loss_of_two(a, b):
    return a.sum(), b.sum()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: retinanet(OneStage(), sizes=(32, 64)), "sizes has 2 entries, and the network"),
        (lambda: retinanet(OneStage(), sizes=(0,) * 5), "scales is .*: give positive"),
        (lambda: retinanet(OneStage(), aspect_ratios=(-1,)), "aspect_ratios is"),
        (lambda: retinanet(OneStage(), sizes=()), "sizes is empty"),
        (lambda: retinanet(OneStage(), aspect_ratios=()), "aspect_ratios is empty"),
        (lambda: retinanet(OneStage(), scales_per_octave=0), "scales_per_octave is 0"),
        (lambda: retinanet(OneStage("ssd", 3, (4, 4), 2)), "one number for all maps"),
        (lambda: ssd(OneStage()), "num_anchors is 9: give a network with a number .* for each map"),
        (lambda: retinanet(OneStage("fcos")), r"of the shape .* with \[H, W, A, K\]"),
        (lambda: retinanet(OneStage(), gama=2), "gama"),
        (lambda: retinanet(OneStage(), loss=loss_of_two), "loss: loss_of_two cannot be called"),
        (lambda: retinanet(OneStage(), loss=None, gamma=2), "gamma is an option of the loss"),
        (lambda: fcos(OneStage("fcos"), sides=(8, 16)), "sides has 2 entries"),
        (lambda: fcos(OneStage("fcos"), sides=(8, 16, 32, 64, 0)), "sides is"),
        (lambda: fcos(OneStage()), "model gives no map 'bbox_ctrness0'"),
        (lambda: ssd(OneStage("ssd", 3, (4, 4), 2), scales=(0.1, 0.2)), "scales has 2 entries"),
        (lambda: ssd(OneStage("ssd", 3, (4, 4), 2), layout="ssd3"), "ssd300"),
        (lambda: ssd(OneStage("ssd", 3, (4, 4), 2), aspect_ratios=(2, 3)), "ratios of each map"),
        (lambda: fcos(OneStage("fcos"), offset=float("nan")), "offset is nan"),
        (lambda: ssd(OneStage("ssd", 3, (4, 4), 2), aspect_ratios=((2,), (0,))), "aspect_ratios"),
        (
            lambda: retinanet(OneStage(), trainable_backbone_layers=6),
            "trainable_backbone_layers is 6: the backbone has 4 stages",
        ),
    ],
)
def test_wrong_options_are_named(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.slow
def test_the_task_checks_classes_and_losses_and_describes_what_decodes_alike():
    detector = retinanet(
        OneStage(), sizes=(16, 32, 64, 128, 256), decode=DetectOptions(max_detections=7)
    )
    with pytest.raises(OptionError, match="model tells 3 classes apart"):
        detection(detector, Inputs((64, 64)), class_names=4)
    with pytest.raises(OptionError, match="per is 'all'"):
        detection(retinanet(OneStage(), per="all"), Inputs((64, 64)), class_names=3)
    described = dict(detector.origin["decode"][1])
    assert described.pop("detector") == "retinanet"
    options = described.pop("decode")
    assert options["max_detections"] == 7
    again = detectors.DETECTORS["retinanet"](
        detector.model, **described, loss=None, decode=DetectOptions(max_detections=7)
    )
    outputs = jax.tree.map(np.float32, outputs_of("retinanet", 2))
    outputs = {key: x[..., :3] if "logits" in key else x for key, x in outputs.items()}
    example = example_of(SIZE, [], [])
    first, second = (
        jax.device_get(jax.jit(one.decode)(outputs, example)) for one in (detector, again)
    )
    jax.tree.map(np.testing.assert_array_equal, first, second)
    assert first.valid.sum() == 7


class Local(nn.Module):
    """A network whose cells see their own pixels only, and find nothing where all are 0."""

    family: str
    num_anchors: int | tuple[int, ...]
    maps: int

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.Conv(8, (8, 8), strides=8, padding="VALID", use_bias=False)(images)
        unseen = -30.0 * (jnp.abs(x).max(axis=-1, keepdims=True) == 0)
        outputs = {}
        for number in range(self.maps):
            shape, classes = x.shape[:3], CLASSES
            if self.family == "ssd":
                shape, classes = (*shape, self.num_anchors[number]), classes + 1
            elif self.family == "retinanet":
                shape = (*shape, self.num_anchors)
            for kind, depth in zip(KINDS[self.family], (classes, 4, 1), strict=False):
                features = nn.Dense(int(np.prod(shape[3:])) * depth)(x).reshape(*shape, depth)
                if kind == "cls_logits":
                    lowered = unseen.reshape(*unseen.shape[:3], *(1,) * (len(shape) - 2))
                    objects = jnp.arange(depth) >= (self.family == "ssd")  # not the background
                    features += jnp.where(objects, lowered, 0)
                elif self.family == "fcos" and depth == 4:
                    features = nn.relu(features)
                outputs[f"{kind}{number}"] = features[..., 0] if depth == 1 else features
            x, unseen = x[:, ::2, ::2], unseen[:, ::2, ::2]
        return outputs


@pytest.mark.parametrize("name", long_but(["retinanet", "fcos", "ssd"], (), ["retinanet"]))
def test_a_padded_image_has_the_losses_and_detections_of_the_image_without_padding(name):
    """From pixels on, with junk in the padding; its cells are background that is easy."""
    constructor, _, anchors, maps, how = FAMILIES[name]
    side, rng = 128, np.random.default_rng(4)
    pixels = rng.integers(0, 256, (2 * side, 2 * side, 3), np.uint8)
    boxes, labels = [[30, 20, 90, 70], [15, 60, 55, 100], [25, 18, 95, 75]], [1, 3, 0]
    results = []
    for whole in (side, 2 * side):
        more = {}
        if name == "ssd":  # whose default boxes are shares of the whole input
            more = {"scales": tuple(x * side / whole for x in (0.2, 0.3, 0.45, 0.6))}
        detector = constructor(Local(name, anchors, maps), **{**how, **more})
        inputs = Inputs((256, 256), resize="fit", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
        task = detection(detector, inputs, class_names=CLASSES)
        example = example_of((whole, whole), boxes, labels, extent=(side, side))
        batch = stacked([example.replace(image=pixels[:whole, :whole])])
        if not results:
            variables = task.init(jax.random.key(0))

        @jax.jit
        def run(variables, batch, task=task):
            batch = jax.vmap(task.prepare)(batch)
            outputs, _ = task.forward(variables, batch, keys=None, step=0, train=False)
            return summed(task.loss, outputs, batch), jax.vmap(task.decode)(outputs, batch)

        results.append(jax.device_get(run(variables, batch)))
    (losses, found), (padded_losses, padded) = results
    assert min(losses.values()) > 0
    assert found.valid.sum() > 20
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, 1e-4), losses, padded_losses)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, 1e-4, 1e-3), found, padded)
