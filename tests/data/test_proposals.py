"""Files of proposals: written once, read with the records, refused where they do not fit."""

import pickle

import numpy as np
import pytest

from jaxvision.core import InputError, Inputs, OptionError
from jaxvision.data import (
    EvalLoader,
    Subset,
    ToDetection,
    TrainLoader,
    WithProposals,
    selective_search,
    write_proposals,
)
from jaxvision.data.sources.source import size_of


class Boxed:
    """Images of three sizes with one object each; image i has i proposals."""

    class_names = ("thing",)
    box_counts = (1, 1, 1)
    sizes = ((20, 30), (10, 40), (16, 16))

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return {"image": np.full((*self.sizes[index], 3), index, np.uint8), **self.target(index)}

    def where(self, index):
        return f"image {index}"

    def target(self, index):
        none = np.zeros(1, bool)
        boxes = {"boxes": np.array([[2.0, 2, 8, 9]]), "labels": np.array([0])}
        return {**boxes, "crowd": none, "difficult": none, "size": self.sizes[index]}


def propose(image):
    count = int(image[0, 0, 0])
    return np.array([[k, 1, 8 + k, 9] for k in range(count)], np.float64).reshape(-1, 4)


@pytest.fixture
def path(tmp_path):
    write_proposals(tmp_path / "new" / "a.npz", Boxed(), propose)
    return tmp_path / "new" / "a.npz"


def test_records_have_the_proposals_of_their_images(path):
    assert [p.name for p in path.parent.iterdir()] == ["a.npz"]
    source = pickle.loads(pickle.dumps(WithProposals(Boxed(), path)))
    assert (len(source), source.class_names, source.where(1)) == (3, ("thing",), "image 1")
    assert source.box_counts == (1, 1, 1)
    assert "proposals" not in source.target(2)
    assert size_of(source, 1) == (10, 40)
    for index in range(3):
        record = source[index]
        assert record["proposals"].dtype == np.float32
        np.testing.assert_array_equal(record["proposals"], propose(record["image"]))
        assert record["labels"].tolist() == [0]
    assert Subset(source, [2])[0]["proposals"].shape == (2, 4)
    with np.load(path, allow_pickle=False) as file:
        assert file["counts"].tolist() == [0, 1, 2]
        assert file["sizes"].tolist() == [list(size) for size in Boxed.sizes]


def test_examples_have_them_in_the_networks_input_with_padding(path):
    source = WithProposals(Boxed(), path)
    transform = ToDetection(Inputs((32, 32), resize="letterbox"), 1, max_boxes=2, max_proposals=3)
    (batch,) = EvalLoader(source, transform, batch_size=4)
    assert (batch.proposals.dtype, batch.proposals.shape) == (np.float32, (4, 3, 4))
    assert batch.proposal_mask.tolist() == [[k < count for k in range(3)] for count in (0, 1, 2, 0)]
    # The second image is 40 pixels wide, and lies in the middle of the rows.
    np.testing.assert_allclose(batch.proposals[1, 0], [0, 12.8, 6.4, 19.2], rtol=1e-6)
    np.testing.assert_allclose(batch.proposals[2, 1], [2, 2, 18, 18], rtol=1e-6)
    assert not batch.proposals[~batch.proposal_mask].any()
    few = ToDetection(transform.inputs, 1, max_proposals=1)(source[2], "x")
    np.testing.assert_array_equal(few.proposals, batch.proposals[2, :1])
    assert ToDetection(transform.inputs, 1)(source[2], "x").proposals is None
    batch = next(TrainLoader(source, transform, batch_size=2, seed=0, partners=2))
    assert batch.partners.proposals.shape == (2, 2, 3, 4)


def test_proposals_are_clipped_where_the_image_is_cropped(path):
    inputs = Inputs((10, 10), resize="crop", shorter_side=10)
    example = ToDetection(inputs, 1, max_proposals=3)(WithProposals(Boxed(), path)[1], "x")
    assert not example.proposal_mask.any()  # it lies left of the middle
    record = {**Boxed()[1], "proposals": np.array([[0.0, 0, 9, 9], [12, 2, 20, 8]])}
    example = ToDetection(inputs, 1, max_proposals=3)(record, "x")
    assert example.proposal_mask.tolist() == [True, False, False]
    np.testing.assert_allclose(example.proposals[0], [0, 2, 5, 8])


def test_a_file_of_selective_search(tmp_path):
    pytest.importorskip("cv2.ximgproc")
    write_proposals(tmp_path / "a.npz", Boxed(), selective_search)
    found = WithProposals(Boxed(), tmp_path / "a.npz")[0]["proposals"]
    assert found.tolist() == [[0, 0, 30, 20]]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"boxes": np.zeros((0, 4))}, "has no array 'counts' of proposals: write it with"),
        ({"counts": np.array([0, 1, 1])}, "arrays that do not fit together"),
        ({"counts": np.array([-1, 2, 2])}, "arrays that do not fit together"),
        ({"sizes": np.zeros((2, 2), int)}, "arrays that do not fit together"),
        ({"boxes": np.zeros((3, 4), int)}, "arrays that do not fit together"),
        ({"boxes": np.full((3, 4), np.nan)}, r"a\.npz, image 1: proposal 1 \(nan, nan, nan, nan\)"),
        ({"boxes": np.tile([[0.0, 0, 9, 17]], (3, 1))}, r"image 1: .* is no box in an image of 40"),
        ({"boxes": np.array([[None] * 4] * 3)}, r"cannot be read \(Object arrays"),
    ],
)
def test_a_damaged_file_is_refused(path, arrays, message):
    with np.load(path) as file:
        good = dict(file)
    given = arrays if "no array" in message else {**good, **arrays}
    np.savez(path, **given)
    with pytest.raises(InputError, match=message):
        WithProposals(Boxed(), path)


def test_what_does_not_fit_is_refused(path, tmp_path):
    with pytest.raises(InputError, match=r"there is no file|cannot be read"):
        WithProposals(Boxed(), tmp_path / "b.npz")
    with pytest.raises(InputError, match=r"give a name that ends in \.npz"):
        write_proposals(tmp_path / "b.json", Boxed(), propose)
    with pytest.raises(OptionError, match="give the file of proposals"):
        WithProposals(Boxed(), "")
    with pytest.raises(InputError, match="of 3 images, but the source has 2 records"):
        WithProposals(Subset(Boxed(), [0, 1]), path)
    turned = WithProposals(Subset(Boxed(), [1, 0, 2]), path)
    with pytest.raises(InputError, match=r"image 1: the image has 40 x 10 pixels, but .* 30 x 20"):
        turned[0]
    with pytest.raises(InputError, match=r"image 2: proposal 1 .* is no box"):
        write_proposals(tmp_path / "b.npz", Boxed(), lambda image: np.array([[0, 0, 30, 10]]))
    with pytest.raises(InputError, match=r"image 0: proposals are \[4\]: give \[P, 4\]"):
        write_proposals(tmp_path / "b.npz", Boxed(), lambda image: np.zeros(4))
    assert not (tmp_path / "b.npz").exists()
    with pytest.raises(InputError, match="x: has no proposals: give a source WithProposals"):
        ToDetection(Inputs((32, 32), resize="stretch"), 1, max_proposals=2)(Boxed()[0], "x")
    with pytest.raises(OptionError, match="max_proposals is 0"):
        ToDetection(Inputs((32, 32)), 1, max_proposals=0)
