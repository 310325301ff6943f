"""Photographs cut into patches and tiles."""

import numpy as np
import pytest
from PIL import Image

from jaxvision.core import InputError, OptionError
from jaxvision.data import (
    Images,
    Photographs,
    RandomPatches,
    Tiles,
    ToRestoration,
    cut_tile,
    tile_origins,
)
from jaxvision.data.sources.tiles import kept_places

SIZES = ((12, 20), (16, 8))


class Memory:
    """A source of photographs in memory; counts how often each is read."""

    def __init__(self, *images):
        self.images, self.reads = images, []

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        self.reads.append(index)
        return {"image": self.images[index]}

    class_names = ()

    def where(self, index):
        return f"photograph {index}"

    def target(self, index):
        return {}


def photographs():
    rng = np.random.default_rng(0)
    return Memory(*(rng.integers(0, 256, (*size, 3), np.uint8) for size in SIZES))


def mirrored(side, place):
    """Where a walk from 0 that turns at both ends is after |place| steps."""
    at, step = 0, 1
    for _ in range(abs(place)):
        if side == 1:
            break
        if not 0 <= at + step < side:
            step = -step
        at += step
    return at


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 4)])
def test_a_tile_goes_on_as_in_a_mirror(size):
    image = np.arange(size[0] * size[1]).reshape(size)
    tile = cut_tile(image, (-4, -7), 12)
    for row in range(12):
        for column in range(12):
            y, x = mirrored(size[0], row - 4), mirrored(size[1], column - 7)
            assert tile[row, column] == image[y, x]


@pytest.mark.parametrize(("tile", "margin"), [(8, 2), (5, 0), (40, 3)])
def test_what_tiles_keep_covers_an_image_once(tile, margin):
    seen = np.zeros((13, 20), int)
    for row, column in tile_origins(seen.shape, tile=tile, margin=margin):
        assert row >= -margin
        assert column >= -margin
        inside = slice(margin, tile - margin)
        rows, columns = (np.arange(start, start + tile)[inside] for start in (row, column))
        rows, columns = rows[rows < 13], columns[columns < 20]
        seen[rows[:, None], columns[None]] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize(("tile", "margin"), [(8, 2), (5, 0), (13, 6)])
def test_tiles_that_end_at_the_border_cover_an_image_once(tile, margin):
    seen = np.zeros((13, 20), int)
    how = {"tile": tile, "margin": margin, "border": "zeros"}
    for origin in tile_origins(seen.shape, **how):
        axes = []
        for start, side in zip(origin, seen.shape, strict=True):
            assert 0 <= start <= side - tile
            first, after = kept_places(start, side, **how)
            assert first - start >= (margin if start else 0)
            assert start + tile - after >= (margin if start + tile < side else 0)
            axes.append(slice(first, after))
        seen[tuple(axes)] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("border", ["reflect", "symmetric"])
def test_borders_are_named_as_in_numpy(border):
    image = np.arange(12).reshape(3, 4)
    expected = np.pad(image, ((7, 6), (9, 3)), mode=border)
    tile = cut_tile(image, (-7, -9), 16, border=border)
    np.testing.assert_array_equal(tile, expected)


def test_photographs_are_cropped_to_multiples():
    source = photographs()
    tiles = Tiles(source, size=10, margin=2, modcrop=5, border="symmetric")
    targets = [tiles.target(index) for index in range(len(tiles))]
    sizes = {target["photograph"]: target["size"] for target in targets}
    assert sizes == {0: (10, 20), 1: (15, 5)}
    image = cut_tile(source.images[1][:15, :5], (-2, -2), 10, border="symmetric")
    np.testing.assert_array_equal(tiles[8]["image"], image)
    with pytest.raises(InputError, match="photograph 1 has a side of fewer than 9 pixels: leave"):
        Tiles(source, size=10, margin=2, modcrop=9)
    with pytest.raises(InputError, match="photograph 1: a side of the image has 8 pixels, fewer t"):
        Tiles(source, size=10, margin=2, border="zeros")
    with pytest.raises(InputError, match="unknown border 'mirror'"):
        Tiles(source, size=10, margin=2, border="mirror")


def test_a_margin_that_leaves_nothing_is_an_error():
    with pytest.raises(InputError, match=r"margin is 4: give at least 0 and less than"):
        list(tile_origins((8, 8), tile=8, margin=4))


def test_patches_are_parts_of_their_photograph_and_stay_the_same():
    source = photographs()
    patches = RandomPatches(source, size=8, count=5)
    assert len(patches) == 10
    origins = set()
    for index in range(10):
        record = patches[index]
        image = source.images[index // 5]
        row, column = record["origin"]
        np.testing.assert_array_equal(record["image"], image[row : row + 8, column : column + 8])
        assert record["size"] == image.shape[:2]
        assert record["photograph"] == index // 5
        assert patches.where(index) == f"photograph {index // 5}"
        np.testing.assert_array_equal(patches[index]["image"], record["image"])
        origins.add((index // 5, row, column))
    assert len(origins) > 5
    assert source.reads == [0, 1], "a photograph is not decoded for each of its patches"


def test_tiles_are_where_they_say():
    source = photographs()
    tiles = Tiles(source, size=10, margin=2)
    assert len(tiles) == 2 * 4 + 3 * 2
    for index in range(len(tiles)):
        record = tiles[index]
        image = source.images[record["photograph"]]
        np.testing.assert_array_equal(record["image"], cut_tile(image, record["origin"], 10))
        assert tiles.where(index) == f"photograph {record['photograph']}"
    assert len({tiles[index]["seed"] for index in range(len(tiles))}) == len(tiles)


def test_an_example():
    example = ToRestoration()(Tiles(photographs(), size=10, margin=2)[9], "x")
    assert example.image.shape == (10, 10, 3)
    assert example.image.dtype == np.uint8
    assert example.photograph == 1
    assert example.origin.tolist() == [-2, 4]
    assert example.size.tolist() == [16, 8]
    assert example.seed.dtype == np.uint32
    assert example.mask
    assert example.extent.tolist() == [10, 10]
    assert not example.grey
    record = Tiles(photographs(), size=10, margin=2)[9]
    grey = ToRestoration()({**record, "image": record["image"][..., :1]}, "x")
    assert grey.grey
    np.testing.assert_array_equal(grey.image, record["image"][..., :1].repeat(3, axis=2))
    two = {**record, "image": np.zeros((10, 10, 2), np.uint8)}
    with pytest.raises(InputError, match=r"^x: the image has 2 channels: store it as RGB or as"):
        ToRestoration()(two, "x")


def test_bad_photographs_are_clear_errors():
    grey = Memory(np.zeros((16, 16), np.uint8))
    with pytest.raises(InputError, match=r"photograph 0: the image is uint8\[16, 16\]: give uint8"):
        RandomPatches(grey, size=8, count=1)[0]
    small = RandomPatches(photographs(), size=12, count=3)
    assert small[0]["image"].shape == (12, 12, 3)
    with pytest.raises(InputError, match=r"photograph 1 has 8 x 16 pixels, fewer than a patch"):
        small[3]
    for options, message in (({"size": 0}, "^size is 0"), ({"count": 0}, "^count is 0")):
        with pytest.raises(InputError, match=message):
            RandomPatches(photographs(), **{"size": 8, "count": 1, **options})


class Known(Memory):
    """As `Memory`, with sizes in the targets; nothing can be decoded."""

    def __getitem__(self, index):
        raise AssertionError("decoded")

    def target(self, index):
        return {"size": self.images[index].shape[:2]}


@pytest.mark.parametrize(
    "cut", [lambda x: RandomPatches(x, size=8, count=3), lambda x: Tiles(x, size=10, margin=2)]
)
def test_targets_are_the_records_without_their_images(cut):
    source = cut(photographs())
    undecoded = cut(Known(*photographs().images))
    assert source.class_names == ()
    for index in range(len(source)):
        record = source[index]
        del record["image"]
        assert source.target(index) == undecoded.target(index) == record
        assert record.keys() == {"origin", "size", "photograph", "seed"}


def test_the_embedded_photographs():
    train, test = Photographs(), Photographs(split="test")
    assert train[0]["image"].shape == test[0]["image"].shape == (427, 640, 3)
    assert (train[0]["image"] != test[0]["image"]).any()
    assert train.where(0) == "scikit-learn's china.jpg"
    assert train.target(0) == {"size": (427, 640)}
    assert (len(train), train.class_names) == (1, ())
    with pytest.raises(InputError, match=r"unknown split of the embedded photographs 'val'"):
        Photographs(split="val")


def test_a_folder_of_photographs(tmp_path):
    (tmp_path / "train" / "more").mkdir(parents=True)
    for name in ("b.png", "more/a.JPG"):
        Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / "train" / name)
    (tmp_path / "train" / "notes.txt").write_text("none")
    ramp = np.arange(24, dtype=np.uint8).reshape(4, 6)
    Image.fromarray(ramp).save(tmp_path / "train" / "c.png")
    source = Photographs(tmp_path, "train")
    np.testing.assert_array_equal(source[1]["image"], ramp[..., None])
    (tmp_path / "train" / "c.png").unlink()
    source = Photographs(tmp_path, "train")
    assert [source.where(index) for index in range(2)] == [
        str(tmp_path / "train" / name) for name in ("b.png", "more/a.JPG")
    ]
    assert source[1]["image"].shape == (4, 6, 3)
    assert source.target(1) == {"size": (4, 6)}
    assert len(Photographs(tmp_path / "train", "")) == 2
    with pytest.raises(InputError, match=r"no split 'held out': there are no images in"):
        Photographs(tmp_path, "held out")
    with pytest.raises(OptionError, match=r"^path is '': give the folder of the data"):
        Photographs("")


def test_images_are_files_without_labels(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    source = Images([str(tmp_path / "a.png")])
    assert (len(source), source.class_names) == (1, ())
    np.testing.assert_array_equal(source[0]["image"], pixels)
    assert source.where(0) == str(tmp_path / "a.png")
    assert source.target(0) == {"size": (4, 6)}
    grey = Images([tmp_path / "a.png"], grey=True)
    expected = np.asarray(Image.fromarray(pixels).convert("L"))
    np.testing.assert_array_equal(grey[0]["image"], expected[..., None])
    assert not hasattr(source, "labels")
