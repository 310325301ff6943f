"""Faster R-CNN and region proposals as detectors: training, padding, devices, records, errors."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.core import AXIS, Detections, Inputs, Keys, OptionError, divide, sum_terms
from jaxvision.interop import from_state_dict, to_state_dict
from jaxvision.models import create_model
from jaxvision.ops import IGNORE, NEGATIVE
from jaxvision.tasks import detection
from jaxvision.tasks.building import forward_of
from jaxvision.tasks.decoding import DetectOptions
from jaxvision.tasks.detection import restore_detection
from jaxvision.tasks.detectors import FASTER_RCNN_DECODE, faster_rcnn, rpn
from tests.models.parity import settle, state_of
from tests.models.test_one_stage import freeze
from tests.models.torchvision_ops import import_detection
from tests.models.variables import random_values, shapes_of
from tests.ops.parity import import_torchvision
from tests.tasks.loop import as_json, evaluate, train
from tests.tasks.one_stage import OneStage, example_of, stacked

SIZE, INPUTS = (64, 96), Inputs((64, 96), mean=(0.5,) * 3, std=(0.25,) * 3)
DARKNET = {
    "name": "plain_darknet",
    "stages": ((1, ((8, 3),)), (2, ((8, 3),)), (3, ((8, 3),)), (4, ((8, 3),))),
}
TINY = {
    "backbone": DARKNET,
    "levels": ("c3", "c4"),
    "features": 8,
    "anchor_sizes": ((16,), (32,), (64,)),
    "box_head": {"name": "mlp", "hidden": 16},
}
FEW = {
    "rpn_pre_nms_top_n_train": 40,
    "rpn_post_nms_top_n_train": 30,
    "rpn_pre_nms_top_n_test": 40,
    "rpn_post_nms_top_n_test": 20,
    "box_batch_size_per_image": 16,
    "rpn_batch_size_per_image": 24,
}
OBJECTS = [  # of four images, the second of which has none
    ([[10, 20, 50, 60], [40, 10, 80, 50], [12, 22, 46, 52]], [1, 2, 0]),
    ([], []),
    ([[20, 5, 60, 63]], [2]),
    ([[2, 2, 30, 30], [50, 20, 90, 60]], [0, 1]),
]


def detector_of(*, fields=None, **options):
    model = create_model("faster_rcnn", **{**TINY, "num_classes": 3, **(fields or {})})
    return faster_rcnn(model, **{**FEW, **options})


def task_of(**options):
    return detection(detector_of(**options), INPUTS, class_names=3)


def batch_of(rows=6, objects=OBJECTS, size=SIZE):
    rng = np.random.default_rng(0)
    examples = []
    for boxes, labels in objects:
        example = example_of(size, boxes, labels, rows=rows)
        image = rng.integers(0, 255, (*size, 3)).astype(np.uint8)
        for (x1, y1, x2, y2), label in zip(np.int64(boxes).reshape(-1, 4), labels, strict=True):
            image[y1:y2, x1:x2] = 80 * label + 40
        boxes = np.float32(example.boxes)
        examples.append(example.replace(image=image, boxes=boxes, index=np.int32(len(examples))))
    return jax.tree.map(np.asarray, stacked(examples))


def records_of(objects=OBJECTS):
    return [
        {
            "boxes": np.float32(boxes).reshape(-1, 4),
            "labels": np.int64(labels),
            "crowd": np.zeros(len(labels), bool),
            "difficult": np.zeros(len(labels), bool),
        }
        for boxes, labels in objects
    ]


def placed(batch):
    """The batch as an evaluation sees it."""
    count = len(batch.mask)
    return batch.replace(
        placement=np.tile(np.float32([1, 1, 0, 0]), (count, 1)),
        size=np.tile(np.int32(SIZE), (count, 1)),
    )


def variables_of(task):
    return random_values(jax.eval_shape(task.init, jax.random.key(0)))


def training_outputs(task, variables, batch, seed=0):
    """(outputs, terms) of a step of training, for all images."""

    def run(variables, batch):
        batch = jax.vmap(task.prepare)(batch)
        keys = jax.random.split(jax.random.key(seed), len(batch.mask))
        how = {"keys": Keys(keys, keys[0]), "step": jnp.int32(0), "train": True}
        outputs, _ = task.forward(variables, batch, **how)

        def terms_of(outputs, example, key):
            return task.loss(outputs, example, key=key, step=jnp.int32(0))

        return outputs, jax.vmap(terms_of)(outputs, batch, keys)

    mapped = jax.vmap(run, (None, 0), axis_name=AXIS)
    found = jax.jit(mapped)(variables, jax.tree.map(lambda x: x[None], batch))
    return jax.tree.map(lambda x: x[0], jax.device_get(found))


@pytest.mark.slow
def test_four_losses_are_trained_jointly_and_the_same_on_any_number_of_devices():
    task, batch = task_of(), batch_of()
    one, two, four = (train(task, [batch] * 4, devices=n) for n in (1, 2, 4))
    assert np.isfinite(one.losses).all()
    assert one.losses[-1] < one.losses[0]
    np.testing.assert_allclose(two.losses, one.losses, rtol=1e-4)
    np.testing.assert_allclose(four.losses, one.losses, rtol=1e-4)
    before = jax.device_get(jax.jit(task.init)(jax.random.key(0)))["params"]
    for path, x in jax.tree.leaves_with_path(before):
        after = functools.reduce(lambda tree, key: tree[key.key], path, one.variables["params"])
        assert np.abs(x - after).max() > 0, path


@pytest.mark.slow
def test_padding_changes_nothing_and_an_image_without_objects_learns_background():
    task = task_of()
    variables = variables_of(task)
    few, many = (training_outputs(task, variables, batch_of(rows)) for rows in (3, 9))
    # The number of candidates changes the random sample, so that only the first stage is the same.
    for number in range(3):
        np.testing.assert_array_equal(few[0][f"objectness{number}"], many[0][f"objectness{number}"])
    for name in ("rpn_objectness", "rpn_box"):
        np.testing.assert_allclose(few[1][name], many[1][name], rtol=1e-5)
    outputs, terms = many
    matches = outputs["matches"]
    assert (matches[1] == NEGATIVE).sum() == 16
    assert terms["box"][0][1] == terms["rpn_box"][0][1] == 0
    assert terms["classification"][0][1] > 0
    assert (terms["classification"][1] == (matches != IGNORE).sum(axis=1)).all()
    for image, (_, labels) in enumerate(OBJECTS):
        assert matches[image].max() < len(labels)
        assert (matches[image] >= 0).sum() <= 4
        # The objects themselves are proposals, so that each image with objects has a match.
        assert (matches[image] >= 0).any() == bool(labels)


def test_crowds_are_no_objects_of_either_stage():
    task, batch = task_of(), batch_of()
    crowd = batch.replace(crowd=batch.box_mask)
    outputs, terms = training_outputs(task, variables_of(task), crowd)
    assert (outputs["matches"] < 0).all()
    assert not terms["box"][0].any()
    assert not terms["rpn_box"][0].any()


def test_images_without_proposals_above_the_threshold():
    """No detections; in training the objects are the only proposals."""
    task = task_of(rpn_score_thresh=1.0)
    variables = jax.jit(task.init)(jax.random.key(0))
    outputs, terms = training_outputs(task, variables, batch_of())
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(terms))
    for image, (boxes, labels) in enumerate(OBJECTS):
        drawn = outputs["matches"][image] >= 0
        assert drawn.sum() == len(labels)
        assert (outputs["matches"][image] != IGNORE).sum() == len(labels)
        np.testing.assert_allclose(
            outputs["proposals"][image][drawn], np.float32(boxes).reshape(-1, 4), rtol=1e-5
        )
    found = evaluate(task, variables, [placed(batch_of())], records_of())
    assert not found.collected.valid.any()
    assert found.metrics["AP"] == 0


def test_an_object_with_an_empty_mask_is_trained_on():
    """Its mask is 0 in all of its box; other images have whole masks, or no objects."""
    head = {"name": "mask", "depth": 1, "features": 8}
    detector = detector_of(fields={"mask_head": head})
    batch = batch_of()
    assert batch.box_mask[2].sum() == 1
    there = batch.box_mask & (np.arange(4) != 2)[:, None]
    cells = np.where(there, 255, 0).astype(np.uint8)[..., None, None]
    frames = np.where(there[..., None], batch.boxes, 0)
    batch = batch.replace(masks=np.tile(cells, (1, 1, 4, 4)), mask_frames=frames)
    task = detection(detector, INPUTS, class_names=3)
    outputs, terms = training_outputs(task, variables_of(task), batch)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(terms))
    total, count = terms["mask"]
    logits, matches = outputs["mask_logits"][2], outputs["matches"][2]
    rows = np.flatnonzero(matches[: len(logits)] >= 0)
    of_label = np.float64(logits)[rows, ..., 2]
    assert count[2] == of_label.size > 0
    np.testing.assert_allclose(total[2], np.log1p(np.exp(of_label)).sum(), rtol=1e-5)
    assert count[1] == total[1] == 0


def test_detections_lie_in_the_image_and_end_where_it_ends():
    task = task_of(decode=dataclasses.replace(FASTER_RCNN_DECODE, score_threshold=0.0))
    batch = placed(batch_of()).replace(extent=np.tile(np.int32([40, 50]), (4, 1)))
    found = evaluate(task, variables_of(task), [batch], records_of()).collected
    boxes = found.boxes[found.valid]
    assert len(boxes) > 20
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert boxes[:, 2].max() <= 50
    assert boxes[:, 3].max() <= 40


def test_a_record_restores_the_detector():
    options = {"rpn_nms_thresh": 0.5, "rpn_post_nms_top_n_test": 15}
    task = task_of(decode=dataclasses.replace(FASTER_RCNN_DECODE, max_detections=7), **options)
    parts = as_json(task)
    assert parts["decode"]["rpn_post_nms_top_n_test"] == 15
    assert parts["loss"]["box_batch_size_per_image"] == 16
    again = restore_detection(parts)
    variables, batch = variables_of(task), placed(batch_of())
    one, two = (evaluate(x, variables, [batch], records_of()).collected for x in (task, again))
    assert one.boxes.shape == (4, 7, 4)
    jax.tree.map(np.testing.assert_array_equal, one, two)


@pytest.mark.slow
def test_proposals_alone_are_measured_without_classes():
    model = create_model("faster_rcnn", **{**TINY, "box_head": None, "num_classes": 3})
    detector = rpn(model, size=24, rpn_post_nms_top_n_test=30)
    task, batch = detection(detector, INPUTS, class_names=3), batch_of()
    result = train(task, [batch] * 60)
    assert result.losses[-1] < 0.5 * result.losses[0]
    found = evaluate(task, result.variables, [placed(batch)], records_of())
    assert found.collected.boxes.shape == (4, 30, 4)
    untrained = evaluate(task, variables_of(task), [placed(batch)], records_of())
    assert found.metrics["AR100"] > untrained.metrics["AR100"] + 0.1
    assert found.tables["class_objects"].tolist() == [6]
    again = restore_detection(as_json(task))
    assert again.decode is not task.decode
    parts = evaluate(again, result.variables, [placed(batch)], records_of())
    assert parts.metrics == found.metrics


@pytest.mark.parametrize("most", [50, 100, 150])
def test_recall_is_measured_of_all_proposals_of_an_image(most):
    """One object is the 20th proposal of an image, another one the 120th."""
    model = create_model("faster_rcnn", **{**TINY, "box_head": None, "num_classes": 3})
    decode = DetectOptions(max_detections=most)
    task = detection(rpn(model, loss=None, decode=decode), INPUTS, class_names=3)
    restored = restore_detection(as_json(task), decode={"max_detections": 150})
    boxes, count = np.tile(np.float32([0, 0, 5, 5]), (1, most, 1)), max(most, 100)
    objects = [[10, 20, 50, 60], [40, 10, 80, 50]]
    boxes[0, 19] = objects[0]
    boxes[0, 119:120] = objects[1]
    found = Detections(
        boxes=boxes,
        scores=np.linspace(1, 0.5, most, dtype=np.float32)[None],
        labels=np.zeros((1, most), np.int32),
        valid=np.ones((1, most), bool),
    )
    records = records_of([(objects, [1, 2])])
    numbers, _ = task.dataset_metric.summarize(found, records)
    recalls = {name: x for name, x in numbers.items() if name.removeprefix("AR").isdigit()}
    expected = {"AR1": 0, "AR10": 0, "AR100": 0.5}
    assert recalls == {**expected, f"AR{count}": 1.0 if most == 150 else 0.5}
    assert f"AR{count}" in task.dataset_metric.names
    assert "AR150" in restored.dataset_metric.names
    nothing = found.replace(valid=np.zeros((1, most), bool))
    assert task.dataset_metric.summarize(nothing, records_of([([], [])]))[0][f"AR{count}"] == 0


def test_first_stages_of_the_backbone_are_frozen():
    detector = detector_of(trainable_backbone_layers=1)
    assert detector.freeze
    assert all(name.startswith("backbone_body") for name in detector.freeze)
    model = create_model("faster_rcnn", **TINY)
    assert faster_rcnn(model, trainable_backbone_layers=1, loss=None).freeze == ()


SQUARE = (96, 96)  # so that a cropped mask of the whole image has its pixels
BOXES = {
    "rpn_objectness": "loss_objectness",
    "rpn_box": "loss_rpn_box_reg",
    "classification": "loss_classifier",
    "box": "loss_box_reg",
}
SMALL_MASKS = {"name": "mask", "depth": 2, "features": 16}
SMALL_POINTS = {"name": "keypoint", "outputs": 3, "depth": 2, "features": 16}
# Of each of torchvision's classes: our further fields and options, its further heads, and the
# further loss.
HEADS = {
    "MaskRCNN": (
        {"mask_head": SMALL_MASKS},
        {},
        lambda module: {
            "mask_head": module.MaskRCNNHeads(256, (16, 16), 1),
            "mask_predictor": module.MaskRCNNPredictor(16, 16, 4),
        },
        {"mask": "loss_mask"},
    ),
    "KeypointRCNN": (
        {"keypoint_head": SMALL_POINTS},
        {"keypoint_sigmas": (0.1,) * 3},
        lambda module: {
            "keypoint_head": module.KeypointRCNNHeads(256, (16, 16)),
            "keypoint_predictor": module.KeypointRCNNPredictor(16, 3),
        },
        {"keypoint": "loss_keypoint"},
    ),
}


# Of ours and of theirs. With so low a threshold many proposals have an object, but lie far off.
SAMPLING = {
    "rpn_post_nms_top_n_train": 40,
    "rpn_score_thresh": 0.05,
    "box_fg_iou_thresh": 0.3,
    "box_batch_size_per_image": 48,
    "box_positive_fraction": 0.5,
    "rpn_batch_size_per_image": 2000,
}


def their_network(name, images):
    """(torch, torchvision's network on MobileNet v3 with its pyramid, in training, in 64 bits).

    The statistics of its norms are near those of the images: otherwise the maps would be of 1e-8,
    and no loss would depend on them.
    """
    torch, detection_models = import_detection("faster_rcnn")
    module = import_detection(name.replace("RCNN", "_rcnn").lower())[1]
    torch.manual_seed(0)
    base = detection_models.fasterrcnn_mobilenet_v3_large_fpn(
        weights=None, weights_backbone=None, num_classes=4
    )
    settle(torch, base.backbone, images)
    freeze(torch, base.backbone.body, 1e-5)
    network = getattr(module, name)(
        base.backbone,
        num_classes=4,
        rpn_anchor_generator=base.rpn.anchor_generator,
        box_bg_iou_thresh=SAMPLING["box_fg_iou_thresh"],
        **SAMPLING,
    )
    for part, small in HEADS[name][2](module).items():
        setattr(network.roi_heads, part, small)
    # Otherwise nearly all proposals would be the same.
    with torch.no_grad():
        for layer in (network.rpn.head.cls_logits, network.rpn.head.bbox_pred):
            layer.weight *= 10
    return torch, network.double().train()


def their_losses(network, batch, torch):
    """Torchvision's losses, without its resizing and its random samples: all are taken."""
    targets = []
    for boxes, labels, masks, keypoints, exists in zip(
        batch.boxes, batch.labels, batch.masks, batch.keypoints, batch.box_mask, strict=True
    ):
        targets.append(
            {
                "boxes": torch.tensor(np.float64(boxes[exists])),
                "labels": torch.tensor(np.int64(labels[exists])) + 1,
                "masks": torch.tensor(masks[exists] // 255),
                "keypoints": torch.tensor(keypoints[exists]),
            }
        )
    _, image_list = import_torchvision("models.detection.image_list")
    given = torch.tensor(batch.image.transpose(0, 3, 1, 2))
    network.transform.forward = lambda images, targets: (
        image_list.ImageList(given, [SQUARE] * len(images)),
        targets,
    )
    of_rpn = network.rpn.compute_loss

    def wide(objectness, deltas, labels, targets):
        return of_rpn(objectness, deltas, [x.double() for x in labels], targets)

    network.rpn.compute_loss = wide  # it makes labels of 32 bits, and so its loss
    return network(list(given), targets)


def with_masks_and_keypoints(batch):
    """The batch with an ellipse in each box, in all pixels of the image, and three keypoints."""
    count, rows = batch.labels.shape
    y, x = np.mgrid[: SQUARE[0], : SQUARE[1]] + 0.5
    x1, y1, x2, y2 = np.moveaxis(batch.boxes, -1, 0)[..., None, None] + 0.0
    with np.errstate(invalid="ignore", divide="ignore"):
        across, down = (2 * x - x1 - x2) / (x2 - x1), (2 * y - y1 - y2) / (y2 - y1)
    inside = across**2 + down**2 < 1
    places = np.array([[0.1, 0.7], [0.5, 0.2], [0.9, 1.3]])  # the last one is outside of its box
    sides = batch.boxes[:, :, None, 2:] - batch.boxes[:, :, None, :2]
    points = batch.boxes[:, :, None, :2] + places * sides
    seen = np.broadcast_to([2.0, 1.0, 2.0], (count, rows, 3)).copy()
    seen[0, 0, 0] = 0  # not labelled
    return batch.replace(
        masks=np.uint8(255 * inside),
        mask_frames=np.tile(np.float32([0, 0, *SQUARE[::-1]]), (count, rows, 1)),
        keypoints=np.float32(np.concatenate([points, seen[..., None]], axis=-1)),
    )


@pytest.mark.parity
@pytest.mark.slow
@pytest.mark.parametrize("name", HEADS)
def test_losses_and_gradients_equal_torchvisions(name, monkeypatch):
    """Of whole networks in 64 bits, with samples that have room for all."""
    fields, options, _, further = HEADS[name]
    batch = with_masks_and_keypoints(batch_of(size=SQUARE))
    batch = batch.replace(image=batch.image / 64.0 - 2)
    torch, network = their_network(name, np.float32(batch.image))
    # Torch's own one has the slope 1/6 in 32 bits.
    relu6 = torch.nn.functional.relu6
    monkeypatch.setattr(torch.nn.functional, "hardsigmoid", lambda x, _: relu6(x + 3) / 6)
    with jax.enable_x64():
        model = create_model(
            "fasterrcnn_mobilenet_v3_large_fpn",
            num_classes=3,
            dtype=jnp.float64,
            param_dtype=jnp.float64,
            **fields,
        )
        detector = faster_rcnn(model, **SAMPLING, **options)
        images = jax.ShapeDtypeStruct((1, *SQUARE, 3), jnp.float32)
        like = jax.tree.map(lambda x: x.update(dtype=jnp.float64), shapes_of(model, images)[1])
        variables = from_state_dict(state_of(network), like)

        @jax.jit
        def run(params):
            def total(params):
                keys = jax.random.split(jax.random.key(0), 4)
                how = {"keys": Keys(keys, keys[0]), "step": 0, "train": True}
                forward = forward_of(model, detector.given)
                outputs, _ = forward({**variables, "params": params}, batch, **how)

                def terms_of(outputs, example, key):
                    return detector.loss(outputs, example, key=key, step=0)

                terms = sum_terms(jax.vmap(terms_of)(outputs, batch, keys), batch.mask)
                shares = {name: divide(*pair) for name, pair in terms.items()}
                return sum(shares.values()), shares

            run = jax.grad(total, has_aux=True)
            return run(params)

        mapped = jax.vmap(run, axis_name=AXIS)
        parts = jax.tree.map(lambda x: x[None], variables["params"])
        gradients, shares = jax.tree.map(lambda x: np.asarray(x[0]), mapped(parts))
    theirs = their_losses(network, batch, torch)
    names = BOXES | further
    assert shares.keys() == names.keys()
    assert theirs.keys() == set(names.values())
    for ours, other in names.items():
        assert theirs[other].item() > 0
        np.testing.assert_allclose(shares[ours], theirs[other].item(), rtol=1e-9, err_msg=ours)
    sum(theirs.values()).backward()
    found = to_state_dict({"params": gradients})
    wanted = {key: values.grad.numpy() for key, values in network.named_parameters()}
    assert found.keys() == wanted.keys()
    for key, expected in wanted.items():
        # The loss of keypoints does not depend on the bias of all cells of a map.
        largest = np.abs(expected).max()
        assert largest > 1e-3 or key == "roi_heads.keypoint_predictor.kps_score_lowres.bias"
        bound = 1e-9 * max(largest, 1e-3)
        np.testing.assert_allclose(found[key], expected, rtol=0, atol=bound, err_msg=key)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: faster_rcnn(OneStage()), "model is OneStage: give a network like fasterrcnn"),
        (
            lambda: detector_of(fields={"box_head": None}),
            "model is FasterRCNN without box_head: give a network like fasterrcnn",
        ),
        (
            lambda: rpn(create_model("faster_rcnn", **TINY)),
            "model is FasterRCNN with box_head: give a network like rpn_resnet50_fpn",
        ),
        (lambda: detector_of(rpn_post_nms_top_n_train=0), "rpn_post_nms_top_n_train is 0"),
        (lambda: detector_of(rpn_nms_thresh=2.0), "rpn_nms_thresh is 2.0"),
        (lambda: detector_of(box_positive_fraction=-1.0), "box_positive_fraction is -1.0"),
        (lambda: detector_of(box_fg_iou_thresh=1.5), "box_fg_iou_thresh is 1.5"),
        (lambda: detector_of(gamma=2), "gamma"),
        (lambda: detector_of(loss=None, box_beta=1.0), "option of the loss"),
    ],
)
def test_options_out_of_range_are_refused(make, message):
    with pytest.raises(OptionError, match=message) as raised:
        make()
    assert "\n" not in str(raised.value)
