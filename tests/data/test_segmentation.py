"""Images with labelled pixels: from files to examples."""

import re

import numpy as np
import pytest
from PIL import Image

from jaxvision.core import IGNORED, InputError, Inputs, OptionError
from jaxvision.data import VOC_CLASSES, MaskFolder, ToSegmentation, VocMasks, read_mask

LABELS = np.uint8([[0, 1, 1, 2], [0, 0, IGNORED, 2]])
IMAGE = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)


NAMES = ("background", "cell", "border")


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
    source = MaskFolder(write_folder(tmp_path), "train", class_names=NAMES)
    assert len(source) == 2
    np.testing.assert_array_equal(source[0]["image"], IMAGE)
    np.testing.assert_array_equal(source[1]["labels"], LABELS)
    assert source.class_names == NAMES
    assert source.target(1).keys() == {"labels"}
    np.testing.assert_array_equal(source.target(1)["labels"], LABELS)
    assert source.where(0).endswith("masks/train/a.png")


def test_vocs_palette_holds_the_labels(tmp_path):
    folder = write_voc(tmp_path)
    source = VocMasks(folder, "train")
    assert len(source) == 2
    assert source.class_names == ("background", *VOC_CLASSES)
    assert VocMasks(folder, "train", class_names=NAMES).class_names == NAMES
    np.testing.assert_array_equal(source[0]["labels"], LABELS)
    assert source[0]["image"].shape == (2, 4, 3)


def test_what_is_wrong_with_a_folder_is_listed(tmp_path):
    folder = write_folder(tmp_path, names=("a", "b", "c", "d"))
    masks = folder / "masks" / "train"
    Image.fromarray(LABELS[:, :3]).save(masks / "a.png")
    (masks / "b.png").unlink()
    (folder / "images" / "train" / "c.bmp").write_bytes(b"no picture")
    with pytest.raises(InputError) as error:
        MaskFolder(folder, "train", class_names=NAMES)
    first, *problems = str(error.value).splitlines()
    assert first == f"{folder} train has 3 problems:"
    assert re.search(r"a.bmp has 4 x 2 pixels, but its mask .*a.png 3 x 2", problems[0])
    assert "b.png" in problems[1]
    assert "c.bmp" in problems[2]
    with pytest.raises(InputError, match="no split 'val': there are no images in"):
        MaskFolder(folder, "val", class_names=NAMES)
    with pytest.raises(InputError, match=r"no split 'val': .*val.txt cannot be read"):
        VocMasks(folder, "val")
    with pytest.raises(OptionError, match="path is None: give the folder of the data"):
        MaskFolder(None, "train", class_names=NAMES)


def test_a_picture_of_colours_is_no_mask(tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"mode RGB: store"):
        read_mask(tmp_path / "a.png")


def test_an_example_of_the_same_size():
    example = ToSegmentation(Inputs((2, 4)), 3)({"image": IMAGE, "labels": LABELS}, "x")
    np.testing.assert_array_equal(example.image, IMAGE)
    np.testing.assert_array_equal(example.labels, LABELS)
    assert example.labels.dtype == np.uint8
    assert example.mask
    assert example.placement.tolist() == [1, 1, 0, 0]
    assert example.size.tolist() == example.extent.tolist() == [2, 4]


def test_resizing_moves_labels_with_pixels_and_does_not_count_what_is_beside():
    transform = ToSegmentation(Inputs((8, 8), resize="letterbox"), 3)
    example = transform({"image": IMAGE, "labels": LABELS}, "x")
    expected = np.full((8, 8), IGNORED, np.uint8)
    expected[2:6] = np.repeat(np.repeat(LABELS, 2, axis=0), 2, axis=1)
    np.testing.assert_array_equal(example.labels, expected)
    assert (example.image[:2] == 127).all()
    stretched = ToSegmentation(Inputs((4, 4), resize="stretch"), 3)
    example = stretched({"image": IMAGE, "labels": LABELS}, "x")
    np.testing.assert_array_equal(example.labels, np.repeat(LABELS, 2, axis=0))
    assert example.placement.tolist() == [1, 2, 0, 0]
    assert (example.size.tolist(), example.extent.tolist()) == ([2, 4], [4, 4])
    cut = ToSegmentation(Inputs((2, 2), resize="crop"), 3)
    example = cut({"image": IMAGE, "labels": LABELS}, "x")
    np.testing.assert_array_equal(example.labels, LABELS[:, 1:3])
    np.testing.assert_array_equal(example.image, IMAGE[:, 1:3])


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
        ({"image": IMAGE[..., :1]}, "x: the image has 1 channels instead of 3"),
        ({"image": IMAGE / 255}, "give uint8"),
    ],
)
def test_bad_records_are_clear_errors(record, message):
    transform = ToSegmentation(Inputs((2, 4)), 3)
    with pytest.raises(InputError, match=message):
        transform({"image": IMAGE, "labels": LABELS, **record}, "x")


def test_sizes_and_options_are_checked():
    with pytest.raises(InputError, match=r"x: the image has 4 x 2 pixels instead of 8 x 8: make"):
        ToSegmentation(Inputs((8, 8)), 3)({"image": IMAGE, "labels": LABELS}, "x")
    for classes in (0, 256):
        with pytest.raises(OptionError, match=rf"^num_classes is {classes}: give at least 1 and"):
            ToSegmentation(Inputs((8, 8)), classes)


def test_a_source_with_other_classes_is_refused(tmp_path):
    source = MaskFolder(write_folder(tmp_path), "train", class_names=NAMES)
    ToSegmentation(Inputs((2, 4)), 3).check_source(source)
    with pytest.raises(
        OptionError, match=r"^num_classes is 2, but the data has 3 classes: backgro"
    ):
        ToSegmentation(Inputs((2, 4)), 2).check_source(source)


BINARY = np.uint8([[0, 255, 255, 0], [0, 0, 255, 255]])
HALF = np.uint8([[0, 255, 255, 1], [255, 255, 255, 2]])


def write_masks(folder, **splits):
    """Splits of images with one mask each, or several."""
    for split, masks in splits.items():
        write_folder(folder, split, [f"{number:02}" for number in range(len(masks))])
        for number, mask in enumerate(masks):
            Image.fromarray(mask).save(folder / "masks" / split / f"{number:02}.png")
    return folder


@pytest.fixture
def _few_looked_at(monkeypatch):
    monkeypatch.setattr("jaxvision.data.sources.mask_folders._LOOKED_AT", 3)


@pytest.mark.usefixtures("_few_looked_at")
def test_masks_of_0_and_255_are_binary_in_all_splits(tmp_path, caplog):
    empty = np.zeros_like(BINARY)
    # More empty ones than are looked at first: the first that tells decides.
    folder = write_masks(tmp_path, train=[empty] * 9 + [BINARY], val=[empty, empty])
    for split, index, expected in [("train", 9, BINARY > 0), ("val", 0, empty)]:
        source = MaskFolder(folder, split, class_names=("no", "yes"))
        assert source.binary
        np.testing.assert_array_equal(source[index]["labels"], expected)
    assert len(caplog.records) == 1
    assert "have only 0 and 255: 255 is taken for the second class" in caplog.text
    unread = MaskFolder(folder, "train", class_names=("no", "yes"), binary=False)
    np.testing.assert_array_equal(unread[9]["labels"], BINARY)
    with pytest.raises(OptionError, match=r"^binary is not set, .* 255, but there are 3 class_na"):
        MaskFolder(folder, "val", class_names=NAMES)
    with pytest.raises(OptionError, match="binary is True, but there are 3 class_names: give two"):
        MaskFolder(folder, "val", class_names=NAMES, binary=True)


@pytest.mark.usefixtures("_few_looked_at")
def test_one_mask_with_another_label_tells_that_255_does_not_count(tmp_path, caplog, monkeypatch):
    folder = write_masks(tmp_path, train=[BINARY] * 10)
    Image.fromarray(LABELS).save(folder / "masks" / "train" / "07.png")
    source = MaskFolder(folder, "train", class_names=("no", "yes"))
    np.testing.assert_array_equal(source[0]["labels"], BINARY)
    binary = MaskFolder(folder, "train", class_names=("no", "yes"), binary=True)
    with pytest.raises(InputError, match=r"07.png has the label 1, but .*: give binary=F") as error:
        binary[7]
    assert "image" not in str(error.value)
    assert not caplog.messages
    # What was read is known, until a file changes.
    monkeypatch.setattr("jaxvision.data.sources.mask_folders._count_file", None)
    assert not MaskFolder(folder, "train", class_names=NAMES).binary
    monkeypatch.undo()
    Image.fromarray(BINARY).save(folder / "masks" / "train" / "07.png")
    assert MaskFolder(folder, "train", class_names=("no", "yes")).binary


IGNORING = np.full_like(BINARY, IGNORED)


@pytest.mark.parametrize(
    ("train", "test", "binary", "warning"),
    [
        (LABELS, IGNORING, False, None),  # no labels for the test, as in Cityscapes
        (BINARY, IGNORING, True, "train have only 0 and 255: 255 is taken for the second class"),
        (BINARY, LABELS, False, "train have only 0 and 255, and those of .*test other labels: 255"),
    ],
)
def test_splits_are_read_alike(tmp_path, caplog, train, test, binary, warning):
    folder = write_masks(tmp_path, train=[train], test=[test])
    stray = folder / "masks" / "instances"  # without images
    stray.mkdir()
    Image.fromarray(BINARY + np.uint8(7)).save(stray / "00.png")
    assert MaskFolder(folder, "train", class_names=("no", "yes")).binary is binary
    assert len(caplog.messages) == (warning is not None)
    assert re.search(warning or "", caplog.text)


@pytest.mark.parametrize(("mask", "share"), [(HALF, 62), (IGNORING, 100)])
def test_255_in_more_than_half_of_the_pixels_has_to_be_meant(tmp_path, mask, share):
    folder = write_masks(tmp_path, train=[mask])
    message = rf"^binary is not set, and {share}% of .*train are 255.*0 to 2; or set binary to Fal"
    with pytest.raises(OptionError, match=message):
        MaskFolder(folder, "train", class_names=NAMES)
    assert MaskFolder(folder, "train", class_names=NAMES, binary=False).binary is False


def test_a_mask_of_one_bit_has_0_and_1_however_others_are_written(tmp_path):
    folder = write_masks(tmp_path, train=[BINARY, BINARY])
    Image.fromarray(BINARY > 0).save(folder / "masks" / "train" / "00.png")
    source = MaskFolder(folder, "train", class_names=("no", "yes"))
    for index in (0, 1):
        np.testing.assert_array_equal(source[index]["labels"], BINARY > 0)


def test_binary_masks_in_vocs_form(tmp_path):
    folder = write_voc(tmp_path, names=("a b", "c"))
    for name in ("a b", "c"):
        Image.fromarray(BINARY).save(folder / "SegmentationClass" / f"{name}.png")
    source = VocMasks(folder, "train", class_names=("no", "yes"))
    assert "a b" in source.where(0)
    np.testing.assert_array_equal(source[0]["labels"], BINARY > 0)
    with pytest.raises(OptionError, match="but there are 21 class_names"):
        VocMasks(folder, "train")
