"""Every kind of image file becomes upright 8-bit RGB, and its size is known from its header."""

import io
import pickle

import numpy as np
import pytest
from PIL import Image

from jaxvision.core import InputError
from jaxvision.data import image_size, read_image, read_mask
from jaxvision.data.sources import images
from jaxvision.data.sources.images import decode_jpeg as decode
from jaxvision.data.sources.images import files_below

RNG = np.random.default_rng(0)
# Smooth, so that JPEG keeps it.
PIXELS = np.stack(np.broadcast_arrays(*np.ogrid[0:240:10, 0:248:8], 90), axis=-1).astype(np.uint8)


@pytest.fixture
def written(tmp_path):
    """Writes an image and reads it: `written(image, "name.png", **options)`."""

    def write(image, name, **options):
        image.save(tmp_path / name, **options)
        pixels = read_image(tmp_path / name)
        assert image_size(tmp_path / name) == pixels.shape[:2]
        return pixels

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


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0", "4:1:1"])
@pytest.mark.parametrize("progressive", [False, True])
def test_simplejpeg_gives_the_pixels_of_pillow(written, monkeypatch, subsampling, progressive):
    pytest.importorskip("simplejpeg")
    noise = RNG.integers(0, 256, (27, 35, 3), np.uint8)
    options = {"quality": 80, "subsampling": subsampling, "progressive": progressive}
    decoded = []
    monkeypatch.setattr(images, "decode_jpeg", lambda image: decoded.append(decode(image)))
    by_pillow = written(Image.fromarray(noise), "a.jpg", **options)
    np.testing.assert_array_equal(decoded[0], by_pillow)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_simplejpeg_leaves_other_jpegs_to_pillow(tmp_path, mode):
    path = tmp_path / "a.jpg"
    Image.fromarray(PIXELS).convert(mode).save(path)
    with Image.open(path) as image:
        assert decode(image) is None


def test_simplejpeg_leaves_damaged_jpegs_to_pillow(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(PIXELS).save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with Image.open(path) as image:
        assert decode(image) is None
    with pytest.raises(InputError, match="truncated"):
        read_image(path)


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


def turned(turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    return exif


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
    pixels = written(Image.fromarray(np.ascontiguousarray(stored)), name, exif=turned(turn))
    assert pixels.shape == upright.shape
    assert np.abs(pixels.astype(int) - upright).max() < (20 if name == "a.jpg" else 1)


def test_grey_of_16_bits_is_upright(written):
    stored = Image.fromarray(np.array([[0, 65535]], np.uint16))
    pixels = written(stored, "a.png", exif=turned(6))
    np.testing.assert_array_equal(pixels[:, :, 0], [[0], [255]])


def test_a_turn_behind_the_pixels_of_a_png_is_overlooked(tmp_path):
    """By both: to look for it, the size of every PNG would need all of the file."""
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS[:16]).save(path, exif=turned(6))
    content = path.read_bytes()
    start = content.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(content[start : start + 4], "big")
    last = content.index(b"IEND") - 4
    path.write_bytes(content[:start] + content[end:last] + content[start:end] + content[last:])
    with Image.open(path) as image:
        assert image.getexif()[0x0112] == 6
    np.testing.assert_array_equal(read_image(path), PIXELS[:16])
    assert image_size(path) == (16, 31)


@pytest.mark.parametrize("exif", [b"Exif\0\0no tags at all", turned(9), turned(300)])
@pytest.mark.parametrize("name", ["a.png", "a.webp"])
def test_a_turn_that_is_none_is_overlooked(written, name, exif):
    assert written(Image.fromarray(PIXELS[:16]), name, exif=exif).shape == (16, 31, 3)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_a_size_needs_the_header_only(tmp_path, name):
    path = tmp_path / name
    noise = RNG.integers(0, 256, (60, 80, 3), np.uint8)
    Image.fromarray(noise).save(path, exif=turned(8))
    path.write_bytes(path.read_bytes()[:1000])
    assert image_size(path) == (80, 60)
    with pytest.raises(InputError, match="truncated"):
        read_image(path)


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
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)
    message = str(error.value)
    assert message.startswith(f"{path} cannot be read as an image (")
    assert message.endswith("): correct it or leave it out")
    assert "\n" not in message
    assert "()" not in message


def test_missing_files_and_folders_are_named(tmp_path):
    for path, reason in ((tmp_path / "none.png", "No such file"), (tmp_path, "directory")):
        for read in (read_image, image_size):
            with pytest.raises(InputError, match=f"^{path} cannot be read .*{reason}"):
                read(path)


def test_an_error_without_a_text_is_named_by_its_kind(tmp_path, monkeypatch):
    def fail(path):
        raise EOFError

    (tmp_path / "a.png").write_bytes(b"")
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


def test_a_folder_that_several_links_lead_to_is_searched_once(tmp_path):
    top, outside = tmp_path / "top", tmp_path / "outside"
    for folder in (top / "z", outside / "deep"):
        folder.mkdir(parents=True)
        (folder / "a.png").touch()
    (top / "b.png").touch()
    links = {"loop": top, "a_link_to_z": top / "z", "x": outside, "y": outside}
    for name, target in links.items():
        (top / name).symlink_to(target)
    images, others = files_below(top)
    assert images == [top / "b.png", top / "x" / "deep" / "a.png", top / "z" / "a.png"]
    assert others == [top / name for name in ("a_link_to_z", "loop", "y")]


def test_postscript_is_never_run(tmp_path, monkeypatch):
    """Pillow would give it to Ghostscript, whatever the file is called."""
    ran = []
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *args, **options: ran.append(args))
    file = tmp_path / "a.png"
    file.write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    )
    with Image.open(file) as image:
        assert image.format == "EPS"
    for read in (read_image, image_size, read_mask):
        with pytest.raises(InputError, match=r"a.png cannot be read as an image \(PostScript is a"):
            read(file)
    assert ran == []
