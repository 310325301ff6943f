"""Images with labelled pixels: from files to examples."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from jaxvision.core import IGNORED, InputError
from jaxvision.data import ToSegmentationExample
from jaxvision.data.sources.mask_folders import open_mask_folder, open_voc_masks, read_mask

LABELS = np.uint8([[0, 1, 1, 2], [0, 0, IGNORED, 2]])
IMAGE = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)


def data_of(folder, **changes):
    return SimpleNamespace(
        **{"dir": folder, "train_split": "train", "test_split": "val", **changes}
    )


def write_folder(folder, split="train", names=("b", "a")):
    for part in ("images", "masks"):
        (folder / part / split).mkdir(parents=True)
    for name in names:
        Image.fromarray(IMAGE).save(folder / "images" / split / f"{name}.bmp")
        Image.fromarray(LABELS).save(folder / "masks" / split / f"{name}.png")
    return folder


def write_voc(folder, names=("x", "y")):
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / part).mkdir(parents=True)
    for name in names:
        Image.fromarray(IMAGE).save(folder / "JPEGImages" / f"{name}.jpg")
        mask = Image.fromarray(LABELS, "P")
        mask.putpalette([value for value in range(256) for _ in range(3)][::-1])
        mask.save(folder / "SegmentationClass" / f"{name}.png")
    (folder / "ImageSets" / "Segmentation" / "train.txt").write_text("\n".join(names) + "\n")
    return folder


def test_a_folder_of_images_and_masks(tmp_path):
    source = open_mask_folder(data_of(write_folder(tmp_path)), "train")
    assert len(source) == 2
    np.testing.assert_array_equal(source[0]["image"], IMAGE)
    np.testing.assert_array_equal(source[1]["labels"], LABELS)
    assert source.where(0).endswith("masks/train/a.png")


def test_vocs_palette_holds_the_labels(tmp_path):
    source = open_voc_masks(data_of(write_voc(tmp_path)), "train")
    assert len(source) == 2
    np.testing.assert_array_equal(source[0]["labels"], LABELS)
    assert source[0]["image"].shape == (2, 4, 3)


def test_what_is_wrong_with_a_folder_is_listed(tmp_path):
    folder = write_folder(tmp_path, names=("a", "b", "c", "d"))
    masks = folder / "masks" / "train"
    Image.fromarray(LABELS[:, :3]).save(masks / "a.png")
    (masks / "b.png").unlink()
    (folder / "images" / "train" / "c.bmp").write_bytes(b"no picture")
    with pytest.raises(InputError) as error:
        open_mask_folder(data_of(folder), "train")
    first, *problems = str(error.value).splitlines()
    assert first == f"{folder} train has 3 problems:"
    assert re.search(r"a.bmp has 4 x 2 pixels, but its mask .*a.png 3 x 2", problems[0])
    assert "b.png" in problems[1]
    assert "c.bmp" in problems[2]
    with pytest.raises(InputError, match="no split 'val': there are no images in"):
        open_mask_folder(data_of(folder), "test")
    with pytest.raises(InputError, match=r"no split 'val': .*val.txt cannot be read"):
        open_voc_masks(data_of(folder), "test")
    for open_source in (open_mask_folder, open_voc_masks):
        with pytest.raises(InputError, match=r"config.data.dir is not set"):
            open_source(data_of(None), "train")


def test_a_picture_of_colours_is_no_mask(tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"mode RGB: store"):
        read_mask(tmp_path / "a.png")


def test_an_example_of_the_same_size():
    example = ToSegmentationExample((2, 4), 3)({"image": IMAGE, "labels": LABELS}, "x")
    np.testing.assert_array_equal(example.image, IMAGE)
    np.testing.assert_array_equal(example.labels, LABELS)
    assert example.labels.dtype == np.uint8
    assert example.mask


def test_resizing_moves_labels_with_pixels_and_does_not_count_what_is_beside():
    transform = ToSegmentationExample((8, 8), 3, resize="letterbox")
    example = transform({"image": IMAGE, "labels": LABELS}, "x")
    expected = np.full((8, 8), IGNORED, np.uint8)
    expected[2:6] = np.repeat(np.repeat(LABELS, 2, axis=0), 2, axis=1)
    np.testing.assert_array_equal(example.labels, expected)
    assert (example.image[:2] == 127).all()
    stretched = ToSegmentationExample((4, 4), 3, resize="stretch")
    example = stretched({"image": IMAGE, "labels": LABELS}, "x")
    np.testing.assert_array_equal(example.labels, np.repeat(LABELS, 2, axis=0))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"labels": LABELS[:, :3]}, "x: the image has 4 x 2 pixels, but its mask 3 x 2"),
        ({"labels": LABELS[..., None]}, "x: the image has 4 x 2 pixels, but its mask 4 x 2"),
        (
            {"labels": LABELS + np.uint8(1)},
            "x: label 3 of the pixel in row 0, column 3 is out of ra",
        ),
        ({"labels": LABELS.astype(int) - 1}, "x: label -1 of the pixel in row 0, column 0"),
        ({"image": IMAGE[..., :1]}, "not uint8"),
        ({"image": IMAGE / 255}, "not uint8"),
    ],
)
def test_bad_records_are_clear_errors(record, message):
    transform = ToSegmentationExample((2, 4), 3)
    with pytest.raises(InputError, match=message):
        transform({"image": IMAGE, "labels": LABELS, **record}, "x")


def test_sizes_and_options_are_checked():
    with pytest.raises(
        InputError, match=r"is 4 x 2 instead of 8 x 8: set config.data.image_size, or"
    ):
        ToSegmentationExample((8, 8), 3)({"image": IMAGE, "labels": LABELS}, "x")
    with pytest.raises(InputError, match=r"unknown config.data.resize 'crop'"):
        ToSegmentationExample((8, 8), 3, resize="crop")
    for size, classes in (((0, 8), 3), ((8, 8), 0), ((8, 8), 256)):
        with pytest.raises(InputError, match=r"config.data.(image_size|num_classes) is"):
            ToSegmentationExample(size, classes)
