"""Batches of the inputs of several images: full where possible, in order, few at a time."""

import numpy as np
import pytest

from jaxvision.predict.batches import computed, run_in_batches


class Network:
    """Doubles numbers, and remembers its batches."""

    def __init__(self):
        self.batches = []

    def __call__(self, inputs):
        self.batches.append(list(inputs))
        return {"double": 2 * np.array(inputs)}


class Image:
    """What `run_in_batches` takes: an image with some numbers."""

    def __init__(self, run, *inputs, shape="wide"):
        self.run, self.inputs, self.shape = run, inputs, shape
        self.found = {}

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, number):
        return self.inputs[number]

    def put(self, number, output):
        assert number not in self.found
        self.found[number] = int(output["double"])

    def is_complete(self):
        return self.found == {n: 2 * x for n, x in enumerate(self.inputs)}


def run(images, **options):
    """The items that are yielded, each of which must be complete by then."""
    for item in run_in_batches(((image, image) for image in images), **options):
        assert item.is_complete()
        yield item


def test_images_of_one_shape_share_batches():
    network = Network()
    images = [Image(network, *x) for x in ([1], [2, 3, 4], [], [5, 6, 7, 8, 9])]
    assert list(run(images, batch_size=4, most=8)) == images
    assert network.batches == [[1, 2, 3, 4], [5, 6, 7, 8], [9]]


def test_images_of_other_shapes_and_networks_do_not():
    first, second = Network(), Network()
    images = [Image(first, 1), Image(first, 2, shape="high"), Image(second, 3), Image(first, 4)]
    assert list(run(images, batch_size=2, most=8)) == images
    assert sorted(first.batches) == [[1, 4], [2]]
    assert second.batches == [[3]]


def test_what_needs_no_network_keeps_its_place():
    network = Network()
    first, last = Image(network, 1), Image(network, 2)
    items = [("first", first), ("failed", None), ("last", last)]
    assert list(run_in_batches(items, batch_size=2, most=4)) == ["first", "failed", "last"]
    assert list(run_in_batches([], batch_size=2, most=4)) == []


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_few_images_wait_whatever_their_shapes(batch_size):
    """One of a rare shape is run alone, when more than `most` are behind it."""
    network, made = Network(), []

    def images():
        for number in range(50):
            made.append(number)
            yield Image(network, number, shape="rare" if number == 7 else "wide")

    for number, image in enumerate(run(images(), batch_size=batch_size, most=2 * batch_size)):
        assert image.inputs == (number,)
        assert len(made) - number <= 2 * batch_size + 1
    assert sorted(x for batch in network.batches for x in batch) == list(range(50))
    assert [7] in network.batches


def test_the_next_batch_is_begun_before_the_results_of_one_are_taken():
    events = []

    class Watched(Image):
        def put(self, number, output):
            events.append(f"take {self.inputs[number]}")
            super().put(number, output)

    class Begun(Network):
        def __call__(self, inputs):
            events.append(f"begin {inputs[0]}")
            return super().__call__(inputs)

    network = Begun()
    list(run([Watched(network, n) for n in range(3)], batch_size=1, most=2))
    assert events == ["begin 0", "begin 1", "take 0", "begin 2", "take 1", "take 2"]


def test_one_image_alone():
    network = Network()
    image = Image(network, 1, 2, 3)
    assert computed(image, 2) is image
    assert image.is_complete()
    assert network.batches == [[1, 2], [3]]
