"""Masks that a detector finds: pasted batch by batch, and their average precision as COCO's."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import engine
from jaxvision.core import DetectionBatch, Detections, InputError, Inputs, OptionError
from jaxvision.ops import Polygons, compress_counts, decode_mask, encode_mask, paste_masks
from jaxvision.tasks import Detector, detection
from jaxvision.tasks.detection_metrics import MASK_NUMBERS, NUMBERS
from tests.models.torchvision_ops import import_detection
from tests.models.variables import random_values

SIDE, CELLS, COUNT = 32, 7, 4
SIZE = 100, 50  # of the original images
INPUTS = Inputs((SIDE, SIDE), resize="letterbox")
# Of 100 x 50 pixels in 32 x 32: scaled by 0.32, and moved to the right by 8.
PLACEMENT = np.float32([0.32, 0.32, 8, 0])
NAMES = ("cat", "dog")


class MaskNet(nn.Module):
    """A network that says for each image one box, a score for each class, and a mask."""

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.Dense(6 + CELLS**2)(images.mean(axis=(1, 2)))
        return {"box": x[:, :4], "scores": x[:, 4:6], "mask": x[:, 6:]}


def decode(outputs, example):
    corner, sides = SIDE * jax.nn.sigmoid(outputs["box"]).reshape(2, 2) / 2
    scores = jax.nn.softmax(outputs["scores"])
    return Detections(
        boxes=jnp.concatenate([corner, corner + sides])[None],
        scores=scores.max(keepdims=True),
        labels=scores.argmax(keepdims=True).astype(jnp.int32),
        valid=jnp.ones(1, bool),
        masks=jax.nn.sigmoid(outputs["mask"]).reshape(1, CELLS, CELLS),
    )


def task_of(decode=decode):
    return detection(Detector(MaskNet(), None, decode), INPUTS, class_names=NAMES)


def batch_of(size, seed=0):
    """Images with 1 to 3 objects."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform([8, 0], [18, 22], (size, COUNT, 2))
    sides = rng.uniform(3, 10, (size, COUNT, 2))
    nothing = np.zeros((size, COUNT), bool)
    return DetectionBatch(
        image=rng.integers(0, 256, (size, SIDE, SIDE, 3), np.uint8),
        boxes=np.concatenate([corners, corners + sides], -1).clip(0, [24, 32] * 2).astype("f4"),
        labels=rng.integers(0, 2, (size, COUNT)).astype("i4"),
        box_mask=np.arange(COUNT)[None] < rng.integers(1, 4, (size, 1)),
        crowd=nothing,
        difficult=nothing,
        mask=np.ones(size, bool),
        extent=np.full((size, 2), SIDE, np.int32),
        placement=np.tile(PLACEMENT, (size, 1)),
        size=np.tile(np.int32(SIZE), (size, 1)),
    )


def original(boxes):
    return (np.asarray(boxes) - np.tile(PLACEMENT[2:], 2)) / PLACEMENT[0]


def records_of(batch, probabilities):
    """The objects of a batch in pixels of the original; masks are those of the probabilities."""
    records = []
    for index, real in enumerate(batch.box_mask):
        boxes = original(batch.boxes[index][real])
        masks = paste_masks(probabilities[index][real], boxes, SIZE)
        record = {
            "boxes": boxes.astype(np.float64),
            "labels": batch.labels[index][real],
            "crowd": batch.crowd[index][real],
            "difficult": batch.difficult[index][real],
            "masks": tuple(map(encode_mask, masks)),
            "size": SIZE,
        }
        records.append(record)
    return records


def blobs(batch, seed=0):
    """f32[B, N, M, M]: probabilities that are high in a disc, which differs between objects."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:CELLS, :CELLS]
    center = rng.uniform(1, CELLS - 2, (2, *batch.box_mask.shape, 1, 1))
    distance = np.hypot(x - center[0], y - center[1])
    return (1 / (1 + np.exp(distance - rng.uniform(1, 4, center.shape[1:])))).astype("f4")


def collected(batch, probabilities, **changes):
    """What is collected and reduced of detections that are the objects of a batch."""

    def given(outputs, example):
        return outputs if isinstance(outputs, Detections) else decode(outputs, example)

    found = Detections(
        boxes=batch.boxes,
        scores=np.where(batch.box_mask, 0.9, 0).astype("f4"),
        labels=batch.labels,
        valid=batch.box_mask,
        masks=probabilities,
    ).replace(**changes)
    metric = task_of(given).dataset_metric
    return metric.reduce(jax.device_get(jax.jit(jax.vmap(metric.collect))(found, batch)))


def summary_of(found, records):
    return task_of().dataset_metric.summarize(found, records)


def test_masks_that_equal_the_objects_have_an_ap_of_one():
    batch = batch_of(6)
    probabilities = blobs(batch)
    records = records_of(batch, probabilities)
    found = collected(batch, probabilities)
    numbers, tables = summary_of(found, records)
    assert numbers["AP"] == numbers["mask_AP"] == numbers["mask_AP50"] == numbers["mask_AP75"] == 1
    for name in ("class_mask_ap", "class_mask_ap50", "class_mask_ap75"):
        np.testing.assert_array_equal(tables[name], [1, 1])
    assert tables["mask_precision50"].shape == (2, 101)
    # Other masks in the same boxes.
    numbers, tables = summary_of(collected(batch, blobs(batch, seed=1)), records)
    assert numbers["mask_AP"] < 0.5 < numbers["AP"] == 1
    assert (tables["class_mask_ap"] < tables["class_ap"]).all()


def test_masks_are_collected_as_run_lengths_of_the_original():
    batch = batch_of(3)
    probabilities = blobs(batch)
    found = collected(batch, probabilities)
    assert found.masks.shape == (3,)
    for index, real in enumerate(batch.box_mask):
        assert len(found.masks[index]) == real.sum()
        expected = paste_masks(probabilities[index][real], original(batch.boxes[index][real]), SIZE)
        for mask, pixels in zip(found.masks[index], expected, strict=True):
            np.testing.assert_array_equal(decode_mask(mask), pixels)


def test_a_mask_covers_its_box_also_where_that_leaves_the_original():
    """Half of the box is beside the letterboxed image, and with it half of the mask."""
    batch = batch_of(1)
    batch = batch.replace(boxes=np.tile(np.float32([4, 8, 12, 24]), (1, COUNT, 1)))
    probabilities = np.zeros((1, COUNT, 4, 4), "f4")
    probabilities[..., :1] = 1  # the left quarter, which is not in the image
    found = collected(batch, probabilities, valid=np.array([[True, False, False, False]]))
    np.testing.assert_allclose(found.boxes[0, 0], [0, 25, 12.5, 75], rtol=1e-5)
    assert found.masks[0].areas().tolist() == [0]
    found = collected(batch, 1 - probabilities, valid=np.array([[True, False, False, False]]))
    assert found.masks[0].areas()[0] > 500


def test_without_objects_or_images_the_numbers_of_masks_are_zero():
    batch = batch_of(2)
    probabilities = blobs(batch)
    empty = batch.replace(box_mask=np.zeros_like(batch.box_mask))
    records = [{**record, "masks": None} for record in records_of(empty, probabilities)]
    found = collected(batch, probabilities)
    for each in (found, collected(empty, probabilities)):
        numbers, tables = summary_of(each, records)
        assert numbers == dict.fromkeys(NUMBERS + MASK_NUMBERS, 0)
        assert np.isnan(tables["class_mask_ap"]).all()
    none = jax.tree.map(lambda x: x[:0], found)
    assert summary_of(none, []).numbers["mask_AP"] == 0


def test_polygons_are_masks_too():
    batch = batch_of(1)
    real = np.array([[True, False, False, False]])
    batch = batch.replace(box_mask=real)
    probabilities = np.ones((1, COUNT, CELLS, CELLS), "f4")
    found = collected(batch, probabilities)
    (record,) = records_of(batch, probabilities)
    x1, y1, x2, y2 = record["boxes"][0]
    polygon = Polygons((np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]]),))
    numbers, _ = summary_of(found, [{**record, "masks": (polygon,)}])
    assert numbers["mask_AP50"] == 1


def test_a_network_that_finds_masks_is_evaluated():
    task, batch = task_of(), batch_of(16)
    assert task.dataset_metric.names == NUMBERS + MASK_NUMBERS
    variables = random_values(jax.eval_shape(task.init, jax.random.key(0)))
    filler = batch.replace(mask=np.arange(16) < 11)

    class Data(list):
        def targets(self):
            return records_of(batch, blobs(batch)) + records_of(batch, blobs(batch))[:11]

    found = engine.evaluate(task, variables, Data([batch, filler]))
    assert 0 <= found.metrics["mask_AP"] <= 1
    assert found.collected.masks.shape == (27,)
    outputs, _ = task.forward(
        variables, jax.vmap(task.prepare)(batch), keys=None, step=None, train=False
    )
    expected = jax.device_get(jax.vmap(decode, in_axes=(0, None))(outputs, None))
    for index in range(16):
        pixels = paste_masks(expected.masks[index], original(expected.boxes[index]), SIZE)[0]
        assert abs(found.collected.masks[index].areas()[0] - pixels.sum()) <= 1 + pixels.sum() // 50
    assert any(table.areas()[0] for table in found.collected.masks)


def test_records_without_masks_are_an_error_before_anything_is_computed():
    task, batch = task_of(), batch_of(2)
    records = records_of(batch, blobs(batch))

    class Data(list):
        def targets(self):
            return [records[0], {**records[1], "masks": None}]

    with pytest.raises(InputError, match=r"the objects of record 1 have none .* masks=True"):
        engine.evaluate(task, {}, Data([batch]))


@pytest.mark.parametrize("shape", [(1, 7, 6), (1, 7), (2, 7, 7)])
def test_masks_of_another_shape_are_an_error(shape):
    def wrong(outputs, example):
        return decode(outputs, example).replace(masks=jnp.zeros(shape))

    with pytest.raises(OptionError, match=r"^decode gives masks of shape .* give \[1, M, M\]"):
        task_of(wrong)


@pytest.mark.parity
def test_the_numbers_equal_pycocotools_with_torchvisions_masks():
    pytest.importorskip("pycocotools")
    from pycocotools import mask as coco_masks
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    torch, roi_heads = import_detection("roi_heads")
    batch = batch_of(30)
    records = records_of(batch, blobs(batch))
    rng = np.random.default_rng(5)
    # Masks between those of the objects and others, scores at random.
    share = rng.uniform(0, 0.6, (30, COUNT, 1, 1)).astype("f4")
    probabilities = (1 - share) * blobs(batch) + share * blobs(batch, seed=1)
    scores = rng.uniform(0.1, 1, (30, COUNT)).astype("f4")
    found = collected(batch, probabilities, scores=scores)
    numbers, _ = summary_of(found, records)

    truth, results = [], []
    for index, record in enumerate(records):
        for mask, label in zip(record["masks"], record["labels"].tolist(), strict=True):
            rle = {"size": list(SIZE), "counts": compress_counts(mask.counts)}
            about = {"id": len(truth) + 1, "image_id": index, "category_id": label, "iscrowd": 0}
            area = int(coco_masks.area(rle))
            truth.append({**about, "segmentation": rle, "area": area})
        real = batch.box_mask[index]
        pasted = roi_heads.paste_masks_in_image(
            torch.tensor(probabilities[index][real])[:, None],
            torch.tensor(original(batch.boxes[index][real])),
            SIZE,
        ).numpy()[:, 0]
        for pixels, score, label in zip(
            pasted > 0.5, scores[index][real], batch.labels[index][real], strict=True
        ):
            rle = coco_masks.encode(np.asfortranarray(pixels.astype(np.uint8)))
            about = {"image_id": index, "category_id": int(label), "score": float(score)}
            results.append({**about, "segmentation": rle})
    data = COCO()
    data.dataset = {
        "info": {},
        "images": [{"id": i, "height": SIZE[0], "width": SIZE[1]} for i in range(30)],
        "categories": [{"id": k, "name": name} for k, name in enumerate(NAMES)],
        "annotations": truth,
    }
    data.createIndex()
    evaluation = COCOeval(data, data.loadRes(results), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    names = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
    expected = dict(zip(names, evaluation.stats[:6], strict=True))
    assert 0.2 < numbers["mask_AP"] < 0.95
    for name, number in expected.items():
        ours = numbers.get(f"mask_{name}", -1)
        assert ours == pytest.approx(number, abs=1e-12), name
