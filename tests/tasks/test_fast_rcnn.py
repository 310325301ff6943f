"""Fast R-CNN: the second stage alone, on proposals that come with the examples."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import augment
from jaxvision.core import ImageBatch, InputError, OptionError
from jaxvision.data import Arrays, WithProposals, write_proposals
from jaxvision.models import create_model
from jaxvision.ops import IGNORE, NEGATIVE
from jaxvision.predict import predict
from jaxvision.tasks import detection
from jaxvision.tasks.detection import restore_detection
from jaxvision.tasks.detectors import FASTER_RCNN_DECODE, fast_rcnn, faster_rcnn, rpn
from tests.tasks.loop import as_json, evaluate, train
from tests.tasks.one_stage import OneStage
from tests.tasks.test_two_stage import (
    DARKNET,
    INPUTS,
    OBJECTS,
    SIZE,
    TINY,
    batch_of,
    placed,
    records_of,
    training_outputs,
    variables_of,
)

COUNT = 24  # proposals of an image, at most
FIELDS = {**TINY, "anchor_sizes": None, "num_classes": 3}


def detector_of(*, fields=None, **options):
    model = create_model("fast_rcnn", **{**FIELDS, **(fields or {})})
    return fast_rcnn(model, **{"box_batch_size_per_image": 16, **options})


def task_of(*, augment=(), **options):
    return detection(detector_of(**options), INPUTS, class_names=3, augment=augment)


def with_proposals(batch, padding=0, seed=0):
    """Boxes near the objects and elsewhere; image 3 has none at all."""
    rng = np.random.default_rng(seed)
    proposals = np.zeros((4, COUNT + padding, 4), np.float32)
    mask = np.zeros((4, COUNT + padding), bool)
    for image in range(3):
        corner = rng.uniform(0, (SIZE[1] - 20, SIZE[0] - 20), (COUNT, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(10, 20, (COUNT, 2))], axis=1)
        objects = np.asarray(batch.boxes[image][batch.box_mask[image]])
        near = np.repeat(objects, 3, axis=0)
        boxes[: len(near)] = np.clip(near + rng.uniform(-3, 3, near.shape), 0, (*SIZE[::-1],) * 2)
        proposals[image, :COUNT], mask[image, :COUNT] = boxes, True
    return batch.replace(proposals=proposals, proposal_mask=mask)


@pytest.mark.slow
def test_it_learns_on_any_number_of_devices_and_all_parameters_are_trained():
    # The objects are too small for the second level of a pyramid.
    backbone = {**DARKNET, "stages": DARKNET["stages"][:3]}
    task = task_of(fields={"backbone": backbone, "features": None, "levels": ("c3",)})
    batch = with_proposals(batch_of())
    one = train(task, [batch] * 60)
    two, four = (train(task, [batch] * 4, devices=n) for n in (2, 4))
    assert one.losses[-1] < 0.5 * one.losses[0]
    np.testing.assert_allclose(two.losses, one.losses[:4], rtol=1e-4)
    np.testing.assert_allclose(four.losses, one.losses[:4], rtol=1e-4)
    before = jax.device_get(jax.jit(task.init)(jax.random.key(0)))["params"]
    assert not any(name.startswith("rpn") for name in before)
    for path, x in jax.tree.leaves_with_path(before):
        after = functools.reduce(lambda tree, key: tree[key.key], path, one.variables["params"])
        assert np.abs(x - after).max() > 0, path
    found = evaluate(task, one.variables, [placed(batch)], records_of())
    untrained = evaluate(task, variables_of(task), [placed(batch)], records_of())
    assert found.metrics["AP50"] > untrained.metrics["AP50"] + 0.3


def test_the_sample_is_of_the_proposals_and_the_objects():
    batch = with_proposals(batch_of())
    task = task_of()
    outputs, terms = training_outputs(task, variables_of(task), batch)
    assert terms.keys() == {"classification", "box"}
    for image, (boxes, labels) in enumerate(OBJECTS):
        matches, drawn = outputs["matches"][image], outputs["proposals"][image]
        given = batch.proposals[image][batch.proposal_mask[image]]
        known = np.concatenate([given, np.float32(boxes).reshape(-1, 4)])
        counted = matches != IGNORE
        assert {tuple(x) for x in drawn[counted]} <= {tuple(x) for x in known}
        assert counted.sum() == (16 if image == 1 else min(16, counted.sum()))
        assert (matches >= 0).any() == bool(labels)
        assert (matches >= 0).sum() <= 4
        assert terms["classification"][1][image] == counted.sum()
    # Without proposals the objects are the only ones.
    assert (outputs["matches"][3] != IGNORE).sum() == 2
    assert (outputs["matches"][1] == NEGATIVE).sum() == 16


def test_padding_of_proposals_changes_no_detection_and_none_gives_none():
    task = task_of(decode=dataclasses.replace(FASTER_RCNN_DECODE, score_threshold=0.0))
    variables = variables_of(task)
    few, many = (
        evaluate(task, variables, [placed(with_proposals(batch_of(), n))], records_of()).collected
        for n in (0, 9)
    )
    np.testing.assert_allclose(many.boxes, few.boxes, rtol=1e-5, atol=1e-3)
    np.testing.assert_array_equal(many.valid, few.valid)
    assert few.valid[:3].any(axis=1).all()
    assert not few.valid[3].any()
    batch = with_proposals(batch_of())
    batch = batch.replace(proposal_mask=np.zeros_like(batch.proposal_mask))
    outputs, terms = training_outputs(task, variables, batch)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(terms))
    assert (outputs["matches"][1] == IGNORE).all()


@pytest.mark.slow
def test_it_is_the_second_stage_of_faster_rcnn():
    """With the same weights and the proposals of its RPN."""
    model = create_model("faster_rcnn", **{**TINY, "num_classes": 3})
    options = {"rpn_pre_nms_top_n_test": 40, "rpn_post_nms_top_n_test": 20}
    decode = dataclasses.replace(FASTER_RCNN_DECODE, score_threshold=0.0)
    whole = detection(faster_rcnn(model, decode=decode, **options), INPUTS, class_names=3)
    variables, batch = variables_of(whole), placed(batch_of())
    prepared = jax.vmap(whole.prepare)(batch)
    how = {"keys": None, "step": jnp.int32(0), "train": False}
    outputs, _ = jax.jit(functools.partial(whole.forward, **how))(variables, prepared)
    part = task_of(decode=decode)
    given = batch.replace(
        proposals=np.asarray(outputs["proposals"]),
        proposal_mask=np.asarray(outputs["proposal_mask"]),
    )
    shared = {
        kind: {name: x for name, x in tree.items() if not name.startswith("rpn")}
        for kind, tree in variables.items()
    }
    wanted = evaluate(whole, variables, [batch], records_of()).collected
    found = evaluate(part, shared, [given], records_of()).collected
    assert wanted.valid.any()
    np.testing.assert_array_equal(found.labels, wanted.labels)
    np.testing.assert_allclose(found.boxes, wanted.boxes, rtol=1e-4, atol=1e-3)


def test_a_record_restores_the_detector():
    task = task_of(decode=dataclasses.replace(FASTER_RCNN_DECODE, max_detections=7), beta=0.5)
    parts = as_json(task)
    assert parts["loss"]["box_batch_size_per_image"] == 16
    assert parts["loss"]["beta"] == 0.5
    again = restore_detection(parts)
    variables, batch = variables_of(task), placed(with_proposals(batch_of()))
    one, two = (evaluate(x, variables, [batch], records_of()).collected for x in (task, again))
    assert one.boxes.shape == (4, 7, 4)
    jax.tree.map(np.testing.assert_array_equal, one, two)


def test_proposals_are_augmented_with_the_image():
    task, batch = task_of(augment=(augment.RandomFlip(1),)), with_proposals(batch_of())
    example = jax.tree.map(lambda x: x[0], batch)
    result = jax.jit(task.augment)(jax.random.key(0), example)
    x1, y1, x2, y2 = example.proposals[example.proposal_mask].T
    flipped = np.stack([SIZE[1] - x2, y1, SIZE[1] - x1, y2], axis=1)
    np.testing.assert_allclose(result.proposals[example.proposal_mask], flipped, atol=1e-4)


def test_a_trained_rpn_writes_a_file_of_proposals(tmp_path):
    model = create_model("faster_rcnn", **{**TINY, "box_head": None, "num_classes": 3})
    proposing = rpn(model, rpn_post_nms_top_n_test=10, loss=None)
    task = detection(proposing, INPUTS, class_names=3)
    variables = variables_of(task)
    images = np.random.default_rng(0).integers(0, 255, (2, *SIZE, 3)).astype(np.uint8)

    def propose(image):
        return next(predict(task, variables, [image])).result.boxes

    write_proposals(tmp_path / "a.npz", Arrays(images), propose)
    source = WithProposals(Arrays(images), tmp_path / "a.npz")
    for index in range(2):
        found = source[index]["proposals"]
        assert 2 <= len(found) <= 10
        np.testing.assert_allclose(found, propose(images[index]), rtol=1e-6)


def test_examples_without_proposals_are_refused():
    task = task_of()
    variables = variables_of(task)
    with pytest.raises(InputError, match="which the examples lack: give a source WithProposals"):
        evaluate(task, variables, [placed(batch_of())], records_of())
    with pytest.raises(InputError, match="which the examples lack"):
        training_outputs(task, variables, batch_of())
    images = ImageBatch(image=jnp.zeros((1, *SIZE, 3)), mask=jnp.ones(1, bool))
    with pytest.raises(InputError, match="which the examples lack"):
        task.forward(variables, images, keys=None, step=0, train=False)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fast_rcnn(OneStage()), "model is OneStage: give a network like fastrcnn"),
        (
            lambda: fast_rcnn(create_model("faster_rcnn", **TINY)),
            "model is FasterRCNN with anchor_sizes: give a network like fastrcnn",
        ),
        (
            lambda: detector_of(fields={"box_head": None}),
            "model is FasterRCNN without box_head: give a network like fastrcnn",
        ),
        (
            lambda: detector_of(fields={"mask_head": {"name": "mask", "depth": 1}}),
            "model is FasterRCNN with mask_head: give a network like fastrcnn",
        ),
        (
            lambda: faster_rcnn(create_model("fast_rcnn", **FIELDS)),
            "model is FasterRCNN without anchor_sizes: give a network like fasterrcnn",
        ),
        (
            lambda: rpn(create_model("fast_rcnn", **FIELDS)),
            "model is FasterRCNN without anchor_sizes: give a network like rpn_resnet50_fpn",
        ),
        (lambda: detector_of(box_batch_size_per_image=0), "box_batch_size_per_image is 0"),
        (lambda: detector_of(box_positive_fraction=2.0), "box_positive_fraction is 2.0"),
        (lambda: detector_of(box_fg_iou_thresh=-1.0), "box_fg_iou_thresh is -1.0"),
        (lambda: detector_of(gamma=2), "gamma"),
    ],
)
def test_options_out_of_range_are_refused(make, message):
    with pytest.raises(OptionError, match=message) as raised:
        make()
    assert "\n" not in str(raised.value)
