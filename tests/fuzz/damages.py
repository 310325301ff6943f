"""Damages of files: bytes, texts, JSON, archives, encodings, and what is no file at all."""

import gzip
import io
import json
import os
import re
import zipfile

import numpy as np
from PIL import Image

NUMBERS = ("nan", "inf", "-1", "0", "1e999", "1_0", "٣", "0x1", "", "9" * 400, "1e-400", "0.5", "2")
VALUES = (
    *(None, True, False, -1, 0, 1, 2, 0.5, 1e308, 10**400, 2**63, float("nan"), float("inf")),
    *("", "x", "1", "x" * 10_000, "a\nb", "\0", "../a.png", [], [[]], {}, [1, 2], {"name": "x"}),
)
ENCODINGS = ("utf-16", "utf-32", "shift_jis", "latin-1", "utf-8-sig", "cp037")
DEEP = 100_000
TEXTS = (".json", ".xml", ".txt", ".csv", ".cfg", ".names")
IMAGES = (".png", ".jpg", ".gif", ".bmp", ".tif", ".webp", ".ppm")


def damage(folder, rng):
    """Damages one file of a folder, and sometimes some bytes more."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    path = choose(files, rng)
    choose(damages_of(path), rng)(path, rng)
    again = choose(files, rng)
    if rng.random() < 0.15 and again.is_file():
        choose([some_bits, a_cut, a_stretch], rng)(again, rng)


def damages_of(path):
    """The damages of a file of this suffix; the first are the more frequent."""
    own = {
        ".json": [a_json_value] * 3 + [a_json_key],
        ".npz": [an_archive, an_array] * 2,
        ".gz": [a_gzip] * 3,
        ".safetensors": [a_safetensors] * 3,
        ".weights": [some_floats],
    }.get(path.suffix, [])
    if path.suffix in TEXTS:
        own += [a_line, a_number, a_number, some_characters, an_encoding, nesting]
    if path.suffix in IMAGES:
        own += [an_image, an_image]
    return [*own, some_bits, some_bits, a_cut, a_cut, a_stretch, other_bytes, no_file]


def choose(values, rng):
    return values[rng.integers(len(values))]


def some_bits(path, rng):
    content = bytearray(path.read_bytes())
    for place in rng.integers(0, max(1, len(content)), rng.integers(1, 4)):
        if content:
            content[place] ^= 1 << rng.integers(8)
    path.write_bytes(content)


def a_cut(path, rng):
    content = path.read_bytes()
    path.write_bytes(content[: rng.integers(0, len(content) + 1)])


def a_stretch(path, rng):
    """Doubles, removes, clears or replaces a stretch of bytes."""
    content = path.read_bytes()
    start, end = sorted(rng.integers(0, len(content) + 1, 2))
    middle = content[start:end]
    new = choose([middle * 2, b"", bytes(len(middle)), rng.bytes(min(len(middle), 99))], rng)
    path.write_bytes(content[:start] + new + content[end:])


def other_bytes(path, rng):
    others = [b"", b"\0" * 100, rng.bytes(100), b"hello\n", b"\x1f\x8b\x08", b"PK\x03\x04"]
    path.write_bytes(choose(others, rng))


def no_file(path, rng):
    """Puts a pipe, a folder, a broken link or nothing in the place of a file."""
    path.unlink()
    kind = rng.integers(5)
    if kind == 0:
        path.mkdir()
    elif kind == 1:
        path.symlink_to(path)
    elif kind == 2:
        path.symlink_to("gone")
    elif kind == 3:
        os.mkfifo(path)


def text_of(path):
    return path.read_text(encoding="utf-8", errors="replace")


def a_line(path, rng):
    lines = text_of(path).splitlines() or [""]
    place = rng.integers(len(lines))
    kind = rng.integers(4)
    if kind == 0:
        del lines[place]
    elif kind == 1:
        lines.insert(place, lines[place])
    elif kind == 2:
        lines.insert(place, choose(["", "   ", "#", "a b c", '"', ",", "x" * 10_000], rng))
    else:
        lines.append(choose(lines, rng))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def a_number(path, rng):
    text = text_of(path)
    places = [i for i, x in enumerate(text) if x.isdigit()]
    if places:
        place = choose(places, rng)
        text = text[:place] + choose(NUMBERS, rng) + text[place + 1 :]
    path.write_text(text, encoding="utf-8")


def some_characters(path, rng):
    text = text_of(path)
    place = rng.integers(len(text) + 1)
    new = choose(["é", "\0", "\u2028", "\ufeff", "\U0001d7d9", "<", "&", '"', "\t", " ", "-"], rng)
    path.write_text(text[:place] + new + text[place + rng.integers(2) :], encoding="utf-8")


def an_encoding(path, rng):
    encoding = choose(ENCODINGS, rng)
    text = text_of(path)
    if path.suffix == ".xml" and rng.random() < 0.5:
        text = f'<?xml version="1.0" encoding="{encoding}"?>{text}'
    path.write_bytes(text.encode(encoding, errors="replace"))


def nesting(path, rng):
    text, deep = text_of(path), DEEP
    if path.suffix == ".xml":
        deep = 5000
        path.write_text("<a>" * deep + text + "</a>" * deep, encoding="utf-8")
    elif path.suffix == ".json":
        key = json.dumps(choose(["info", "task", "images", "format"], rng))
        path.write_text(f"{{{key}: {'[' * deep}{']' * deep}, {text[1:]}", encoding="utf-8")
    else:
        path.write_text("[" * deep + text, encoding="utf-8")


def a_json_value(path, rng):
    """Removes, doubles, renames or replaces a value of a JSON file."""
    content = json.loads(path.read_text())
    inside, key = choose(list(places_of(content)), rng)
    kind = rng.integers(6)
    if kind == 0:
        del inside[key]
    elif kind == 1 and isinstance(inside, list):
        inside.insert(key, inside[key])
    elif kind == 2 and isinstance(inside, dict):
        inside[f"{key}x"] = inside.pop(key)
    elif kind == 3 and isinstance(inside[key], int | float):
        inside[key] = str(inside[key])
    elif kind == 4:
        other, there = choose(list(places_of(content)), rng)
        inside[key] = json.loads(json.dumps(other[there]))
    else:
        inside[key] = choose(VALUES, rng)
    path.write_text(json.dumps(content))


def places_of(value):
    """All (object or list, key or index) of a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in list(items):
        yield value, key
        if isinstance(part, dict | list):
            yield from places_of(part)


def a_json_key(path, rng):
    """Gives a key a second time, with another value."""
    text = path.read_text()
    place = choose([found.end() - 2 for found in re.finditer(r'\{\s*"', text)], rng)
    key = text[place + 1 : text.index(":", place)]
    path.write_text(
        f"{text[: place + 1]}{key}: {json.dumps(choose(VALUES, rng))}, {text[place + 1 :]}"
    )


def an_archive(path, rng):
    """Writes an archive anew: with an array twice, lacking, renamed or otherwise compressed."""
    with zipfile.ZipFile(path) as file:
        entries = [(info.filename, file.read(info)) for info in file.infolist()]
    place, kind = rng.integers(len(entries)), rng.integers(5)
    method = zipfile.ZIP_STORED
    if kind == 0:
        entries.append(entries[place])
    elif kind == 1:
        del entries[place]
    elif kind == 2:
        entries[place] = (choose(["x", "x.npy", "é.npy", "../x.npy"], rng), entries[place][1])
    elif kind == 3:
        method = choose([zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA], rng)
    else:
        name, content = entries[place]
        entries[place] = (name, damaged_header(content, rng))
    write_archive(path, entries, method)


def damaged_header(content, rng):
    """The bytes of an array whose header states another shape, order or dtype."""
    pairs = [
        (b"(", b"(99999999999, "),
        (b"(", b"(-1, "),
        (b"(", b"(0, "),
        (b"False", b"True "),
        (b"<", b">"),
        (b"'|u1'", b"'|O' "),
        (b"<f4", b"<c8"),
        (b"'descr'", b"'descR'"),
        (b"{", b"{" * 500),
        (b"\x93NUMPY\x01", b"\x93NUMPY\x03"),
        (b"\x93NUMPY\x01", b"\x93NUMPY\x09"),
    ]
    old, new = choose(pairs, rng)
    return content.replace(old, new, 1)


def an_array(path, rng):
    """Replaces an array of an archive by another."""
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    name = choose(list(arrays), rng)
    x = arrays[name]
    others = [
        *(
            x.ravel()[:0],
            x.ravel()[:1],
            x[:1] if x.ndim else x,
            x[..., None],
            x.ravel(),
            x.astype(str),
            np.zeros((0, 0)),
        ),
        *(np.array(None), np.array("nothing"), np.array(3), np.zeros(3, "V2"), x.T),
    ]
    if x.dtype.kind in "iuf":
        others += [x * 0 - 1, x.astype(complex), x.astype("f2"), x.astype(bool), x / 3 + 1e300]
        others += [
            np.full(x.shape, np.nan),
            x.astype(">f8"),
            np.array(["1"] * max(1, len(x.ravel()))),
        ]
    arrays[name] = choose(others, rng)
    np.savez(path, **arrays)


def write_archive(path, entries, method):
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in entries:
            file.writestr(zipfile.ZipInfo(name), content, method)


def a_gzip(path, rng):
    """Damages what is compressed."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    kind = rng.integers(4)
    if kind == 0:
        content[rng.integers(0, min(16, len(content)))] = rng.integers(256)
    elif kind == 1:
        content = content[: rng.integers(len(content))]
    elif kind == 2:
        content += rng.bytes(5)
    else:  # a bomb behind a header that does not state it
        content += bytes(10_000_000)
    path.write_bytes(gzip.compress(bytes(content), 1))


def a_safetensors(path, rng):
    """Damages the JSON of the header, whose length is kept or not."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header, rest = content[8 : 8 + length], content[8 + length :]
    aside = path.with_name("header.json")
    aside.write_bytes(header)
    choose([a_json_value, a_json_value, a_json_key, a_number], rng)(aside, rng)
    new = aside.read_bytes()
    aside.unlink()
    stated = choose([len(new)] * 4 + [length, 2**63, 10**8 - 1], rng)
    path.write_bytes(stated.to_bytes(8, "little") + new + rest)


def some_floats(path, rng):
    """Adds or removes numbers of a file of float32."""
    content = path.read_bytes()
    count = 4 * int(rng.integers(1, 4))
    path.write_bytes(content[:-count] if rng.random() < 0.5 else content + bytes(count))


def an_image(path, rng):
    """Stores an image in another mode or format, or states a size that is too large."""
    with Image.open(path) as image:
        image.load()
    modes = ("1", "L", "P", "RGBA", "LA", "CMYK", "I;16", "F", "I")
    kind = rng.integers(3)
    stream = io.BytesIO()
    if kind == 0:
        header = b"BM" + bytes(12) + (40).to_bytes(4, "little")
        header += 2 * int(choose([0, 1, 2**20, 2**31 - 1], rng)).to_bytes(4, "little")
        stream.write(header + b"\1\0\x18\0" + bytes(24))
    elif kind == 1:
        image.convert("L").convert(choose(modes, rng)).save(stream, "tiff")
    else:
        image = image.resize((int(rng.integers(1, 9)), int(rng.integers(1, 9))))
        image.save(stream, choose(["png", "bmp", "tiff"], rng))
    path.write_bytes(stream.getvalue())
