"""Loaders: every record in its turn, the same for any number of threads, workers and processes."""

import dataclasses
import json
import multiprocessing
import os
import signal

import jax
import numpy as np
import pytest

from jaxvision.core import ClassificationBatch, InputError, OptionError
from jaxvision.data import (
    EvalLoader,
    MultiScale,
    RandomTransform,
    ReadOptions,
    Shard,
    ToClassification,
    TrainLoader,
)
from jaxvision.data.loading import loader as loading
from tests.data.test_shapes import Pictures, inputs_of

WHOLE = Shard(0, 1)
READS = [ReadOptions(threads=0), ReadOptions(threads=4), ReadOptions(threads=1, ahead=1)]


class Toy:
    """Record i is an image full of i + 1, with the label i; a broken one cannot be read.

    At the top level of a module, so that worker processes can have a copy.
    """

    def __init__(self, count, broken=None):
        self.count, self.broken = count, broken

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index == self.broken:
            raise InputError(f"{self.where(index)}: it is broken: mend it")
        return {"image": np.full((2, 2, 1), index + 1, np.uint8), "label": index}

    class_names = ()

    def where(self, index):
        return f"toy, record {index}"

    def target(self, index):
        return {"label": index}


def to_example(record, where):
    assert where == f"toy, record {record['label']}"
    return ClassificationBatch(
        image=record["image"],
        label=np.int32(record["label"]),
        weight=np.float32(1),
        mask=np.True_,
    )


@dataclasses.dataclass(frozen=True)
class Sized:
    """As `to_example`, with images of another size."""

    size: int

    def __call__(self, record, where):
        example = to_example(record, where)
        return example.replace(image=np.resize(example.image, (self.size, self.size, 1)))


def train_loader(count=10, batch_size=4, *, seed=5, broken=None, **options):
    return TrainLoader(Toy(count, broken), to_example, batch_size=batch_size, seed=seed, **options)


def eval_loader(count=10, batch_size=4, *, broken=None, **options):
    return EvalLoader(Toy(count, broken), to_example, batch_size=batch_size, **options)


def take(loader, count):
    return [next(loader) for _ in range(count)]


def joined(batches):
    """Batches one after the other, or the shares of one batch side by side."""
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *batches)


def assert_equal(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize(("count", "batch_size"), [(10, 4), (10, 5), (3, 8), (7, 1)])
def test_every_epoch_has_each_record_once_across_the_borders_of_batches(count, batch_size):
    batches = take(train_loader(count, batch_size), 6 * count)
    assert all(len(b.label) == batch_size for b in batches)
    stream = joined(batches)
    epochs = stream.label[: 6 * batch_size * count].reshape(-1, count)
    np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(count), (len(epochs), 1)))
    assert len({tuple(epoch) for epoch in epochs}) > 1
    assert stream.mask.all()
    np.testing.assert_array_equal(stream.image[:, 1, 1, 0], stream.label + 1)


def test_the_order_is_shuffled_by_the_seed_alone():
    first, again, other = (take(train_loader(100, 50, seed=seed), 2) for seed in (5, 5, 6))
    assert_equal(first, again)
    assert (joined(first).label != joined(other).label).any()
    assert (joined(first).label != np.arange(100)).any()


@pytest.mark.parametrize("partners", [0, 2])
@pytest.mark.parametrize("count", [2, 4])
def test_the_shares_of_all_processes_make_the_global_batch(count, partners):
    whole = take(train_loader(10, 8, partners=partners), 5)
    loaders = [train_loader(10, 8, partners=partners, shard=Shard(i, count)) for i in range(count)]
    for expected in whole:
        assert_equal(joined([next(loader) for loader in loaders]), expected)


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("position", [0, 1, 4, 9])
def test_a_state_leads_back_to_its_place_however_it_is_read(read, position):
    straight = train_loader()
    expected = take(straight, 12)
    assert straight.get_state() == {"batches": 12, "records": 10}
    loader = train_loader(read=read)
    take(loader, position)
    state = json.loads(json.dumps(loader.get_state()))
    assert_equal(take(loader, 3), expected[position:][:3])
    loader.set_state(state)
    assert loader.get_state() == state
    assert_equal(take(loader, 3), expected[position:][:3])
    straight.set_state(state)
    assert_equal(take(straight, 3), expected[position:][:3])


def test_a_state_can_be_far_away():
    loader = train_loader(10, 4)
    loader.set_state({"batches": 10**9, "records": 10})
    assert sorted(joined(take(loader, 5)).label) == sorted([*range(10)] * 2)


def test_a_state_of_other_data_is_refused():
    loader = train_loader()
    with pytest.raises(InputError, match="has 10 records, but the run began with 11: restore"):
        loader.set_state({"batches": 3, "records": 11})


def test_a_loader_is_its_own_iterator():
    loader = train_loader()
    next(iter(loader))
    assert loader.get_state() == {"batches": 1, "records": 10}


@pytest.mark.parametrize("part", [1, 3, 4, 99])
@pytest.mark.parametrize("count", [1, 2])
def test_parts_of_batches_make_the_batches(part, count, monkeypatch):
    """What a worker reads, and what this process joins."""
    monkeypatch.setattr(loading, "_PART", part)
    for make in (train_loader, eval_loader):
        options = {"partners": 1} if make is train_loader else {}
        batches = make(10, 8, shard=Shard(count - 1, count), **options)._batches
        parts = loading._parts(batches)
        assert parts.count == -(-8 // count // part)
        for number in range(2):
            read = [parts(number * parts.count + i) for i in range(parts.count)]
            assert max(len(x.label) for x in read) <= part
            assert_equal(loading._join(read), batches(number))


@pytest.mark.slow
def test_worker_processes_read_the_same_batches(monkeypatch):
    """Of several sizes and shapes, with partners, in parts."""
    monkeypatch.setattr(loading, "_PART", 3)

    def loader(**options):
        parts = (ToClassification(inputs_of(shorter=side), 100) for side in (24, 32))
        transform = MultiScale(tuple(parts), every=3, seed=7)
        options = {"batch_size": 4, "seed": 5, "partners": 1, **options}
        return TrainLoader(Pictures(10), transform, **options)

    found = loader(read=ReadOptions(workers=2))
    found.set_state({"batches": 3, "records": 10})
    expected = take(loader(), 12)[3:]
    assert len({batch.image.shape for batch in expected}) > 2
    assert_equal(take(found, 5), expected[:5])
    assert found.get_state() == {"batches": 8, "records": 10}
    # They outlive Ctrl-C and the signal of schedulers, which a training outlives.
    workers = multiprocessing.active_children()
    assert len(workers) >= 2
    for worker in workers:
        os.kill(worker.pid, signal.SIGINT)
        os.kill(worker.pid, signal.SIGTERM)
    assert_equal(take(found, 4), expected[5:])


@pytest.mark.parametrize(
    "read", [*READS, pytest.param(ReadOptions(workers=1), marks=pytest.mark.long)]
)
def test_an_error_in_reading_comes_out_as_it_was_raised(read):
    loader = train_loader(broken=3, read=read)
    with pytest.raises(InputError) as error:
        take(loader, 3)
    assert str(error.value) == "toy, record 3: it is broken: mend it"


def test_partners_arrive_with_each_example():
    batches = take(train_loader(10, 4, partners=3), 30)
    stream = joined(batches)
    assert batches[0].partners.image.shape == (4, 3, 2, 2, 1)
    assert batches[0].partners.label.shape == batches[0].partners.mask.shape == (4, 3)
    assert stream.partners.partners is None
    np.testing.assert_array_equal(stream.partners.image[..., 1, 1, 0], stream.partners.label + 1)
    assert set(stream.partners.label.flat) == set(range(10))
    # Others in every epoch.
    of_zero = stream.partners.label[stream.label == 0]
    assert len({tuple(row) for row in of_zero}) > 6


def test_partners_follow_from_the_seed():
    first, again, other = (take(train_loader(partners=2, seed=seed), 5) for seed in (5, 5, 6))
    assert_equal(first, again)
    assert (joined(first).partners.label != joined(other).partners.label).any()
    # The order does not depend on them.
    np.testing.assert_array_equal(joined(first).label, joined(take(train_loader(), 5)).label)


@pytest.mark.parametrize(
    ("read", "count", "batch_size"),
    [
        *((read, *sizes) for read in READS for sizes in ((10, 4), (8, 4), (3, 8))),
        # Starting worker processes takes seconds.
        pytest.param(ReadOptions(workers=2), 10, 4, marks=pytest.mark.long),
    ],
)
def test_evaluation_sees_every_record_once_in_order(read, count, batch_size):
    loader = eval_loader(count, batch_size, read=read)
    batches = list(loader)
    assert len(batches) == len(loader) == -(-count // batch_size)
    assert all(len(b.label) == batch_size for b in batches)
    stream = joined(batches)
    np.testing.assert_array_equal(stream.label[stream.mask], np.arange(count))
    for leaf in jax.tree.leaves(stream):
        assert not leaf[count:].any()
    assert_equal(list(loader), batches)


@pytest.mark.parametrize("count", [1, 9, 16])
def test_evaluation_has_equally_many_batches_in_every_process(count):
    whole = list(eval_loader(count, 8))
    shares = [list(eval_loader(count, 8, shard=Shard(i, 4))) for i in range(4)]
    assert {len(batches) for batches in shares} == {len(whole)}
    for i, expected in enumerate(whole):
        assert_equal(joined([batches[i] for batches in shares]), expected)


def test_an_error_in_evaluation_comes_out_as_it_was_raised():
    with pytest.raises(InputError) as error:
        list(eval_loader(broken=3))
    assert str(error.value) == "toy, record 3: it is broken: mend it"


@pytest.mark.parametrize("loader", [train_loader, eval_loader])
@pytest.mark.parametrize(
    ("batch_size", "fix"), [(6, "4 or 8"), (9, "8 or 12"), (3, "4"), (0, "4"), (-4, "4")]
)
def test_a_batch_that_cannot_be_shared_names_the_next_that_can(loader, batch_size, fix):
    with pytest.raises(InputError) as error:
        loader(10, batch_size, shard=Shard(1, 4))
    assert str(error.value) == (
        f"batch size {batch_size} is not divisible by the 4 processes: use {fix}"
    )


@pytest.mark.parametrize("loader", [train_loader, eval_loader])
def test_no_records_are_refused(loader):
    with pytest.raises(InputError, match=r"has no records$"):
        loader(0)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_refused(seed):
    with pytest.raises(
        InputError, match=rf"^seed is {seed}: give at least 0 and at most 4294967295"
    ):
        train_loader(seed=seed)


@pytest.mark.parametrize("name", ["threads", "workers", "ahead"])
def test_fewer_than_no_readers_are_refused(name):
    with pytest.raises(InputError, match=rf"^{name} is -1: give at least 0"):
        ReadOptions(**{name: -1})


def sizes_of(loader, count):
    return [next(loader).image.shape[1] for _ in range(count)]


@pytest.mark.parametrize("read", READS[:2])
def test_transforms_of_several_sizes_hold_for_some_batches_each(read):
    transform = MultiScale(tuple(map(Sized, (2, 4, 6))), every=3, seed=7)

    def loader(**options):
        return TrainLoader(Toy(10), transform, batch_size=4, seed=5, **options)

    sizes = sizes_of(loader(read=read), 36)
    blocks = np.reshape(sizes, (-1, 3))
    assert (blocks == blocks[:, :1]).all()
    assert set(sizes) == {2, 4, 6}
    assert (np.diff(blocks[:, 0]) == 0).any(), "drawn at random, not in turn"
    # Every process has the same size, and a run that is resumed goes on with it.
    for index in range(2):
        assert sizes_of(loader(shard=Shard(index, 2)), 6) == sizes[:6]
    resumed = loader()
    resumed.set_state({"batches": 7, "records": 10})
    assert sizes_of(resumed, 8) == sizes[7:15]
    other = TrainLoader(
        Toy(10), dataclasses.replace(transform, seed=8), batch_size=4, seed=5, read=READS[0]
    )
    assert sizes_of(other, 36) != sizes


def test_partners_have_the_size_of_their_example():
    transform = MultiScale(tuple(map(Sized, (2, 4))), every=1, seed=0)
    loader = TrainLoader(Toy(10), transform, batch_size=2, seed=5, partners=3)
    for batch in take(loader, 4):
        assert batch.partners.image.shape == (2, 3, *batch.image.shape[1:])


@pytest.mark.parametrize(
    ("transforms", "every", "message"),
    [((), 1, "transforms is empty: give at least 1"), ((to_example,), 0, "every is 0: give at l")],
)
def test_the_transforms_of_several_sizes_are_checked(transforms, every, message):
    with pytest.raises(OptionError, match=f"^{message}"):
        MultiScale(transforms, every=every, seed=0)


@pytest.mark.parametrize(("index", "count"), [(-1, 2), (2, 2), (0, 0)])
def test_a_shard_is_one_of_the_parts(index, count):
    with pytest.raises(OptionError, match=r"^(index|count) is"):
        Shard(index, count)


class Checked:
    """As `to_example`, for sources of ten records."""

    def check_source(self, source):
        if len(source) != 10:
            raise InputError(f"{len(source)} records")

    def __call__(self, record, where, rng=None):
        return to_example(record, where)


@pytest.mark.parametrize(
    "transform",
    [Checked(), RandomTransform(Checked()), MultiScale((to_example, Checked()), every=1, seed=0)],
)
def test_a_transform_checks_the_source_before_a_record_is_read(transform):
    loaders = [
        lambda source: TrainLoader(source, transform, batch_size=2, seed=0),
        lambda source: EvalLoader(source, transform, batch_size=2),
    ]
    for loader in loaders[: 1 + isinstance(transform, Checked)]:
        loader(Toy(10))
        with pytest.raises(InputError, match=r"^11 records$"):
            loader(Toy(11))


def test_loaders_say_what_they_were_made_with():
    loader = train_loader(10, 4, partners=3, seed=7)
    assert (loader.batch_size, loader.seed, loader.partners) == (4, 7, 3)
    assert eval_loader(10, 4).batch_size == 4
    with pytest.raises(OptionError, match=r"^partners is -1: give at least 0"):
        train_loader(partners=-1)


def test_a_loader_without_a_shard_has_this_processs_part(monkeypatch):
    whole_train, whole_eval = take(train_loader(10, 8), 3), list(eval_loader(10, 8))
    assert_equal(take(train_loader(10, 8, shard=WHOLE), 3), whole_train)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    halves = []
    for index in range(2):
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        halves.append((take(train_loader(10, 8), 3), list(eval_loader(10, 8))))
        assert_equal(take(train_loader(10, 8, shard=WHOLE), 3), whole_train)
    for number, whole in enumerate((whole_train, whole_eval)):
        parts = zip(*(half[number] for half in halves), strict=True)
        assert_equal([joined(part) for part in parts], whole)
    with pytest.raises(InputError, match=r"^batch size 9 is not divisible by the 2 processes"):
        train_loader(10, 9)


def test_targets_are_of_all_examples_and_no_image_is_read():
    loader = EvalLoader(Toy(10, broken=3), to_example, batch_size=4, shard=Shard(1, 2))
    targets = loader.targets()
    assert targets == [{"label": index} for index in range(10)]
    assert loader.targets() is targets


def drawn(record, where, rng):
    """As `to_example`, with a drawn number in place of the pixels."""
    example = to_example(record, where)
    return example.replace(image=np.full((1,), rng.randint(1 << 30)))


@pytest.mark.parametrize("partners", [0, 2])
def test_what_is_drawn_follows_from_the_place_alone(partners):
    def batches(read, shard=WHOLE, seed=5):
        options = {"batch_size": 4, "seed": seed, "shard": shard, "partners": partners}
        loader = TrainLoader(Toy(10), RandomTransform(drawn), read=read, **options)
        return [next(loader) for _ in range(5)]

    expected = batches(READS[0])
    for read in READS[1:]:
        jax.tree.map(np.testing.assert_array_equal, batches(read), expected)
    halves = [batches(READS[0], Shard(index, 2)) for index in range(2)]
    together = jax.tree.map(lambda a, b: np.concatenate([a, b]), *halves)
    jax.tree.map(np.testing.assert_array_equal, together, expected)
    numbers = np.concatenate([batch.image.ravel() for batch in expected])
    assert len(np.unique(numbers)) == len(numbers)  # another one in each epoch, too
    assert (batches(READS[0], seed=6)[0].image != expected[0].image).all()
    if partners:
        others = np.concatenate([batch.partners.image.ravel() for batch in expected])
        assert len(np.unique([*numbers, *others])) == len(numbers) + len(others)
