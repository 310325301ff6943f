"""Inputs of several shapes: how images and annotations are placed, and how loaders group them."""

import collections
import itertools

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxvision.core import Inputs, OptionError
from jaxvision.data import (
    EvalLoader,
    MultiScale,
    ReadOptions,
    Shard,
    Subset,
    ToClassification,
    ToDetection,
    ToLandmarks,
    ToSegmentation,
    TrainLoader,
)
from jaxvision.data.loading.order import GroupedOrder, epoch_order
from jaxvision.data.transforms.placing import interpolate
from jaxvision.ops.placement import to_input, to_original
from jaxvision.tasks.building import prepare_of

HERE = ReadOptions(threads=0)
SIZES = [(20, 30), (30, 20), (24, 24), (20, 60), (60, 20), (20, 26), (40, 60)]


def inputs_of(shapes="buckets", shorter=32, **options):
    sides = {"resize": "shorter_side", "shorter_side": shorter, "longer_side": 2 * shorter}
    return Inputs(**sides, shapes=shapes, multiple_of=8, **options)


class Pictures:
    """Record i is an image of the size i % 7, full of i + 1, with the label i."""

    class_names = ()

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        height, width = SIZES[index % len(SIZES)]
        image = np.full((height, width, 3), index + 1, np.uint8)
        return {"image": image, "label": index}

    def where(self, index):
        return f"picture {index}"

    def target(self, index):
        return {"label": index, "size": SIZES[index % len(SIZES)]}


def training(shapes="buckets", count=23, batch_size=4, transform=None, **options):
    transform = transform or ToClassification(inputs_of(shapes), 100)
    how = {"batch_size": batch_size, "seed": 5, "read": HERE, **options}
    return TrainLoader(Pictures(count), transform, **how)


def sized(batch):
    """The sizes of the images without padding, and that of the batch."""
    return batch.extent.tolist(), batch.image.shape[1:3]


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=40),
    st.integers(1, 9),
    st.integers(0, 2**32 - 1),
)
def test_a_batch_is_made_whenever_a_group_has_enough_records(groups, batch_size, seed):
    _, groups = np.unique(groups, return_inverse=True)
    order, waiting = GroupedOrder(groups, batch_size, seed), collections.defaultdict(list)
    expected = []
    for epoch in range(6):
        for place, record in enumerate(epoch_order(len(groups), seed, epoch)):
            group = groups[record]
            waiting[group].append(epoch * len(groups) + place)
            if len(waiting[group]) == batch_size:
                expected.append((group, waiting.pop(group)))
    assert [order.batch(number) for number in range(len(expected))] == expected


def test_batches_of_training_have_one_shape_and_every_record_equally_often():
    loader = training()
    batches = [next(loader) for _ in range(230)]
    inputs = inputs_of()
    seen = np.zeros(23, int)
    for batch in batches:
        extents, shape = sized(batch)
        sizes = [SIZES[label % len(SIZES)] for label in batch.label]
        assert {inputs.size_of(size) for size in sizes} == {shape}
        assert extents == [list(inputs.resized(size)) for size in sizes]
        np.add.at(seen, batch.label, 1)
    assert len({sized(batch)[1] for batch in batches}) == 4
    # 40 epochs, but for those that wait and those that came a little early.
    assert seen.sum() == 920
    assert seen.min() >= 36
    assert seen.max() <= 44


def test_batches_of_training_do_not_depend_on_how_they_are_read():
    multi = MultiScale(
        tuple(ToClassification(inputs_of(shorter=side), 100) for side in (24, 32)), every=2, seed=3
    )
    for transform in (None, multi):
        alone = training(transform=transform, partners=2)
        expected = [next(alone) for _ in range(9)]
        shares = [training(transform=transform, partners=2, shard=Shard(i, 2)) for i in range(2)]
        for batch in expected:
            assert batch.partners.image.shape[2:] == batch.image.shape[1:]
            halves = [next(share) for share in shares]
            whole = jax.tree.map(lambda *x: np.concatenate(x), *halves)
            jax.tree.map(np.testing.assert_array_equal, whole, batch)
        resumed = training(transform=transform, partners=2, read=ReadOptions(threads=3))
        resumed.set_state({"batches": 6, "records": 23})
        jax.tree.map(np.testing.assert_array_equal, next(resumed), expected[6])
        assert len({batch.image.shape for batch in expected}) > 1 + (transform is multi)


def test_one_shape_keeps_the_order_of_other_data():
    fixed = training("fixed")
    stretched = training(transform=ToClassification(Inputs((8, 8), resize="stretch"), 100))
    for _ in range(7):
        np.testing.assert_array_equal(next(fixed).label, next(stretched).label)


def test_exact_shapes_are_not_for_training():
    with pytest.raises(OptionError, match=r"^shapes is 'exact', which is for evaluation"):
        training("exact")


@pytest.mark.parametrize("count", [1, 23])
@pytest.mark.parametrize("shapes", ["fixed", "buckets", "exact"])
def test_evaluation_sees_every_record_once_by_shape(shapes, count):
    # A subset tells sizes too.
    source, inputs = Subset(Pictures(30), range(count)), inputs_of(shapes)
    options = {"batch_size": 4, "read": HERE}
    loader = EvalLoader(source, ToClassification(inputs, 100), **options)
    batches = list(loader)
    assert len(batches) == len(loader)
    labels = np.concatenate([batch.label[batch.mask] for batch in batches])
    np.testing.assert_array_equal(np.sort(labels), np.arange(count))
    np.testing.assert_array_equal(labels, loader.order)
    assert [target["label"] for target in loader.targets()] == labels.tolist()
    found = [sized(batch)[1] for batch in batches]
    assert len(list(itertools.groupby(found))) == len(set(found))
    for batch in batches:
        assert len(batch.mask) == (1 if shapes == "exact" else 4)
        for label in batch.label[batch.mask]:
            assert inputs.size_of(SIZES[label % len(SIZES)]) == batch.image.shape[1:3]
        assert not batch.image[~batch.mask].any()
    shares = [
        list(EvalLoader(source, ToClassification(inputs, 100), shard=Shard(i, 2), **options))
        for i in range(2)
    ]
    for parts in zip(*shares, strict=True):
        assert len({part.image.shape for part in parts}) == 1
    both = [x.label[x.mask] for share in shares for x in share]
    np.testing.assert_array_equal(np.sort(np.concatenate(both)), np.arange(count))


@pytest.mark.parametrize("resampling", ["uint8", "float32"])
@pytest.mark.parametrize("size", [None, (32, 40)])
def test_annotations_move_with_their_image_and_padding_is_0(resampling, size):
    inputs = inputs_of(resampling=resampling, mean=(0.21, 0.43, 0.63), std=(0.1, 0.2, 0.3))
    image = np.random.default_rng(0).integers(0, 256, (37, 23, 3), np.uint8)
    boxes, none = np.array([[1.0, 2, 20, 36.5]]), np.zeros(1, bool)
    record = {
        "image": image,
        "boxes": boxes,
        "labels": np.zeros(1, int),
        "crowd": none,
        "difficult": none,
        "points": boxes[:, :2],
        "visible": ~none,
        "label": 0,
    }
    within = {} if size is None else {"size": size}
    example = ToDetection(inputs, 1, max_boxes=2)(record, "a", **within)
    height, width = inputs.resized((37, 23), size)
    shape = size or inputs.size_of((37, 23))
    assert example.image.shape == (*shape, 3)
    assert example.image.dtype == resampling
    assert example.extent.tolist() == [height, width]
    scale = np.array([width / 23, height / 37] * 2)
    np.testing.assert_allclose(example.boxes[:1], boxes * scale, rtol=1e-6)
    np.testing.assert_allclose(to_original(example.boxes[:1], example.placement), boxes, rtol=1e-6)
    np.testing.assert_allclose(to_input(boxes, example.placement), boxes * scale, rtol=1e-6)
    prepared = np.asarray(prepare_of(inputs)(example).image)
    assert not prepared[height:].any()
    assert not prepared[:, width:].any()
    assert prepared[:height, :width].all()
    # Nearly 0 before, so that an augmentation that moves it leaves no border.
    rough = (np.asarray(example.image, float) / 255 - inputs.mean) / inputs.std
    assert np.abs(rough[height:]).max(initial=0) < 0.02
    labels = ToSegmentation(inputs, 2)({**record, "labels": image[..., 0] % 2}, "a", **within)
    np.testing.assert_array_equal(labels.labels[:height, :width] == 255, False)
    assert (labels.labels[height:] == 255).all()
    assert (labels.labels[:, width:] == 255).all()
    points = ToLandmarks(inputs, 1)(record, "a", **within)
    np.testing.assert_allclose(points.points, example.boxes[:1, :2])
    for other in (labels, points, ToClassification(inputs, 1)(record, "a", **within)):
        assert other.extent.tolist() == [height, width]


@pytest.mark.parametrize("size", [(5, 9), (40, 7), (11, 13)])
def test_interpolation_is_linear_between_the_centres_of_pixels(size):
    rows, columns = np.mgrid[:11, :13] + 0.5
    image = np.stack([2 * rows + 3 * columns, rows], axis=-1)
    found = interpolate(image, size)
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    y, x = (y * 11 / size[0]).clip(0.5, 10.5), (x * 13 / size[1]).clip(0.5, 12.5)
    np.testing.assert_allclose(found, np.stack([2 * y + 3 * x, y], axis=-1), rtol=1e-12)
    assert interpolate(image.astype(np.uint8), size).dtype == np.float32
