"""Finding images, reading every kind of them as upright RGB, and names for outputs."""

import io
import os
import pathlib

import numpy as np
import pytest
from PIL import Image

from jaxvision.core import InputError
from jaxvision.predict import find_images, output_names, read_image

TREE = ["b.jpg", "a.PNG", "c10.jpeg", "c9.webp", "notes.txt", ".hidden.png", "odd[1].tif"]
DEEP = ["deep/d.bmp", "deep/deeper/e.gif", "deep/deeper/f.ppm", "empty.png/readme"]


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Some files, in the current folder."""
    for name in TREE + DEEP:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(*arguments):
    return [path.as_posix() for path in find_images(arguments)]


def test_a_file_is_taken_whatever_its_suffix(tree):
    assert found("b.jpg") == ["b.jpg"]
    assert found("notes.txt", ".hidden.png") == ["notes.txt", ".hidden.png"]


def test_a_folder_stands_for_the_images_directly_in_it(tree):
    expected = ["a.PNG", "b.jpg", "c10.jpeg", "c9.webp", "odd[1].tif"]
    assert found(".") == expected
    assert found(f"{tree}/") == [f"{tree}/{name}" for name in expected]
    assert found("deep") == ["deep/d.bmp"]


def test_a_folder_whose_name_looks_like_a_pattern(tree):
    (tree / "set[1]").mkdir()
    (tree / "set[1]" / "x.png").write_bytes(b"")
    assert found("set[1]") == ["set[1]/x.png"]


def test_patterns(tree):
    assert found("c*") == ["c10.jpeg", "c9.webp"]
    assert found("?.jpg") == ["b.jpg"]
    assert found("[ab].*") == ["a.PNG", "b.jpg"]
    assert found("deep/**") == ["deep/d.bmp", "deep/deeper/e.gif", "deep/deeper/f.ppm"]
    assert found("**/*.ppm") == ["deep/deeper/f.ppm"]
    # A name that is a file is no pattern.
    assert found("odd[1].tif") == ["odd[1].tif"]


def test_no_file_comes_twice_and_the_order_is_that_of_the_arguments(tree):
    assert found("c*", "b.jpg", "c9.webp", "./b.jpg", str(tree / "b.jpg"), "deep/../b.jpg") == [
        "c10.jpeg",
        "c9.webp",
        "b.jpg",
    ]
    assert found("deep", "deep/**", "a.PNG")[-1] == "a.PNG"
    assert found("b.jpg", ".")[:2] == ["b.jpg", "a.PNG"]
    os.symlink(tree / "b.jpg", tree / "link.jpg")
    assert found("link.jpg", "b.jpg") == ["link.jpg"]


def test_no_arguments_find_nothing():
    assert find_images([]) == []


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("missing.jpg", r"^'missing.jpg': there is no such file or folder, and no image matches"),
        ("", r"^'': there is no such file"),
        ("*.gif", r"^'\*\.gif': there is no such"),
        ("*.txt", r"^'\*\.txt': there is no such"),
        ("empty*", r"^'empty\*': there is no such"),
        ("empty.png", r"^empty.png: there are no images \(\.bmp, .*'empty.png/\*\*/\*' for those"),
    ],
)
def test_nothing_found_names_the_argument(tree, argument, message):
    with pytest.raises(InputError, match=message) as error:
        find_images(["b.jpg", argument])
    assert "\n" not in str(error.value)


RNG = np.random.default_rng(0)
# Smooth, so that JPEG keeps it.
PIXELS = np.stack(np.broadcast_arrays(*np.ogrid[0:240:10, 0:248:8], 90), axis=-1).astype(np.uint8)


@pytest.fixture
def written(tmp_path):
    """Writes an image and reads it: `written(image, "name.png", **options)`."""

    def write(image, name, **options):
        image.save(tmp_path / name, **options)
        return read_image(tmp_path / name)

    return write


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm", "webp"])
def test_rgb_comes_back(written, suffix):
    options = {"lossless": True} if suffix == "webp" else {}
    pixels = written(Image.fromarray(PIXELS), f"a.{suffix}", **options)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, PIXELS)


def test_a_path_may_be_a_string(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(str(tmp_path / "a.png")), PIXELS)


def test_jpeg_and_cmyk(written):
    image = Image.fromarray(PIXELS)
    assert np.abs(written(image, "a.jpg", quality=95).astype(int) - PIXELS).max() < 12
    for name in ("b.jpg", "b.tif"):
        options = {"quality": 95} if name == "b.jpg" else {}
        pixels = written(image.convert("CMYK"), name, **options)
        assert np.abs(pixels.astype(int) - PIXELS).max() < 12


def test_grey_and_black_and_white(written):
    grey = Image.fromarray(PIXELS[:, :, 0])
    expected = np.repeat(PIXELS[:, :, :1], 3, axis=2)
    np.testing.assert_array_equal(written(grey, "a.png"), expected)
    bits = Image.fromarray(PIXELS[:, :, 0] > 100)
    np.testing.assert_array_equal(written(bits, "b.png"), np.where(expected > 100, 255, 0))


def test_a_palette(written):
    image = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3), mode="P")
    colors = RNG.integers(0, 256, (6, 3), np.uint8)
    image.putpalette(colors.tobytes())
    for name in ("a.png", "a.gif"):
        np.testing.assert_array_equal(written(image, name), colors.reshape(2, 3, 3))


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_grey_of_16_bits_is_scaled_not_clipped(written, name):
    values = np.array([[0, 128, 129, 257, 32896], [65535, 65407, 65406, 1000, 40000]], np.uint16)
    expected = [[0, 0, 1, 1, 128], [255, 255, 254, 4, 156]]
    pixels = written(Image.fromarray(values), name)
    np.testing.assert_array_equal(pixels, np.repeat(np.array(expected)[:, :, None], 3, axis=2))


def test_big_endian_grey_of_16_bits(tmp_path):
    values = np.array([[0, 257, 514], [65535, 51400, 2570]], np.uint16)
    (tmp_path / "a.pgm").write_bytes(b"P5 3 2 65535\n" + values.astype(">u2").tobytes())
    np.testing.assert_array_equal(read_image(tmp_path / "a.pgm")[:, :, 0], values // 257)


def test_what_is_transparent_is_laid_on_white(written):
    alpha = np.array([[0, 255, 51]], np.uint8)
    color = np.array([[[0, 0, 0], [10, 200, 30], [50, 100, 150]]], np.uint8)
    rgba = Image.fromarray(np.concatenate([color, alpha[:, :, None]], axis=2))
    expected = [[[255, 255, 255], [10, 200, 30], [214, 224, 234]]]
    np.testing.assert_array_equal(written(rgba, "a.png"), expected)
    grey = Image.merge("LA", [Image.fromarray(color[:, :, 0]), Image.fromarray(alpha)])
    np.testing.assert_array_equal(written(grey, "b.png")[0, :, 0], [255, 10, 214])
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), mode="P")
    palette.putpalette([0, 0, 0, 9, 8, 7])
    for name in ("c.png", "c.gif"):
        pixels = written(palette, name, transparency=0)
        np.testing.assert_array_equal(pixels, [[[255, 255, 255], [9, 8, 7]]])


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_images_are_upright(written, turn, name):
    """EXIF's orientation says where the stored image's first row and first column belong."""
    upright = PIXELS[:16]
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[turn]
    exif = Image.Exif()
    exif[0x0112] = turn
    pixels = written(Image.fromarray(np.ascontiguousarray(stored)), name, exif=exif)
    assert pixels.shape == upright.shape
    assert np.abs(pixels.astype(int) - upright).max() < (20 if name == "a.jpg" else 1)


def test_grey_of_16_bits_is_upright(written):
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.fromarray(np.array([[0, 65535]], np.uint16))
    np.testing.assert_array_equal(written(stored, "a.png", exif=exif)[:, :, 0], [[0], [255]])


def test_the_first_frame_is_taken(written):
    frames = [Image.fromarray(np.full((4, 5), value, np.uint8)) for value in (40, 200)]
    for name in ("a.gif", "a.tif"):
        pixels = written(frames[0], name, save_all=True, append_images=frames[1:])
        assert (pixels == 40).all()


def encoded(kind, **options):
    content = io.BytesIO()
    pixels = np.random.default_rng(1).integers(0, 256, (60, 60, 3), np.uint8)
    Image.fromarray(pixels).save(content, kind, **options)
    return content.getvalue()


def huge_bmp():
    content = bytearray(encoded("BMP"))
    content[18:26] = (2**20).to_bytes(4, "little") * 2
    return bytes(content)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no image",
        encoded("JPEG")[:-500],
        encoded("PNG")[:-500],
        encoded("PNG")[:20],
        encoded("GIF")[:200],
        encoded("TIFF", compression="tiff_lzw")[:-300],
        encoded("WEBP")[:-500],
        encoded("BMP")[:-500],
        b"P5 3 2 65535\n123",
        huge_bmp(),
    ],
)
def test_what_cannot_be_read_is_named_with_the_reason(tmp_path, content):
    path = tmp_path / "broken.jpg"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_image(path)
    message = str(error.value)
    assert message.startswith(f"{path} cannot be read as an image (")
    assert message.endswith("): mend it or leave it out")
    assert "\n" not in message
    assert "()" not in message


def test_missing_files_and_folders_are_named(tmp_path):
    for path, reason in ((tmp_path / "none.png", "No such file"), (tmp_path, "directory")):
        with pytest.raises(InputError, match=f"^{path} cannot be read .*{reason}"):
            read_image(path)


def test_an_error_without_a_text_is_named_by_its_kind(tmp_path, monkeypatch):
    def fail(path):
        raise EOFError

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(InputError, match=r"cannot be read as an image \(EOFError\)"):
        read_image(tmp_path / "a.png")


def test_damaged_bytes_never_end_in_another_error(tmp_path):
    rng = np.random.default_rng(0)
    path, refused = tmp_path / "a", 0
    for content in (encoded("PNG"), encoded("JPEG"), encoded("GIF"), encoded("BMP")):
        for _ in range(40):
            damaged = bytearray(content)
            for position in rng.integers(0, 60, 3):
                damaged[position] = rng.integers(256)
            path.write_bytes(damaged)
            try:
                assert read_image(path).ndim == 3
            except InputError:
                refused += 1
    assert 20 < refused < 160


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.array([[0.0, 0.5]], np.float32), "float32"),
        (np.array([[0, 70000]], np.int32), "int32"),
        (np.array([[-1, 5]], np.int32), "int32"),
    ],
)
def test_numbers_without_a_range_are_refused(written, values, kind):
    with pytest.raises(InputError, match=f"numbers of type {kind}: store it with 8 or 16 bits"):
        written(Image.fromarray(values), "a.tif")


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        ([], []),
        (["a.jpg", "b/c.png"], ["a", "c"]),
        (["a.jpg", "b/a.png", "c/a.jpg"], ["a", "a_2", "a_3"]),
        (["a.jpg", "b/a.png", "a_2.jpg", "c/a_2.png"], ["a", "a_3", "a_2", "a_2_2"]),
        (["a_2.jpg", "a.jpg", "a.png"], ["a_2", "a", "a_3"]),
        (["A.jpg", "a.png"], ["A", "a_2"]),
        (["x.tar.gz", "x.tar.png"], ["x.tar", "x.tar_2"]),
    ],
)
def test_output_names_are_unique(paths, names):
    assert output_names(paths) == names
    assert output_names([pathlib.Path(path) for path in paths]) == names
    assert len({name.lower() for name in names}) == len(paths)


def test_many_files_of_one_name_take_no_time():
    names = output_names([f"{number}/image.jpg" for number in range(20_000)])
    assert len(set(names)) == 20_000
    assert names[:2] == ["image", "image_2"]
    assert names[-1] == "image_20000"
