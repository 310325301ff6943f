"""Of each format a small sample, what the library reads of it, and what an independent reader does.

The latter raises whatever it likes for what is not the format.
"""

import csv
import functools
import gzip
import importlib.util
import io
import json
import math
import re
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import defusedxml.ElementTree
import jax
import numpy as np
import optax
import safetensors.numpy
from PIL import Image, ImageOps

import jaxvision
from jaxvision import data, tasks
from jaxvision.features import Features, read_features, write_features
from jaxvision.interop import (
    read_cfg,
    read_state_dict,
    read_weights,
    restore_variables,
    save_variables,
    write_state_dict,
)
from jaxvision.ops import Polygons
from jaxvision.predict import find_images

SIZES = {"a": (9, 12), "b": (8, 8)}
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


class Format(NamedTuple):
    """A format.

    Attributes:
      title: of its row in the table.
      write: writes a sound sample into an empty folder.
      read: what the library reads there.
      truth: what an independent reader reads there.
      share: of all inputs; those of slow readers are fewer.
      tolerance: by which numbers may differ.
    """

    title: str
    write: Callable[[Path], None]
    read: Callable[[Path], Any]
    truth: Callable[[Path], Any]
    share: float
    tolerance: float = 1e-6


def picture(name):
    """An image of noise, the same each time."""
    rng = np.random.default_rng(ord(name))
    return Image.fromarray(rng.integers(0, 256, (*SIZES[name], 3), np.uint8))


def save(image, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def write_text(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def pixels_of(path):
    """The upright image in RGB, on white, by Pillow and numpy alone."""
    with Image.open(path) as image:
        image.load()
        upright = ImageOps.exif_transpose(image)
        if upright.mode in ("F", "I") or upright.mode.startswith("I;"):
            pixels = np.asarray(upright)
            assert upright.mode != "F"
            assert pixels.min() >= 0
            assert pixels.max() <= 65535
            grey = np.rint(pixels / 257).astype(np.uint8)
            return np.repeat(grey[..., None], 3, axis=2)
        if upright.has_transparency_data:
            rgba = np.asarray(upright.convert("RGBA"), float)
            share = rgba[..., 3:] / 255
            return np.rint(rgba[..., :3] * share + 255 * (1 - share)).astype(np.uint8)
        return np.asarray(upright.convert("RGB"))


def number(text):
    assert not set(text.strip()) - set("0123456789+-.eE")
    value = float(text)
    assert math.isfinite(value)
    return value


def text_of(path):
    assert path.is_file()
    return path.read_bytes().decode("utf-8-sig")


def unique(pairs):
    assert len({key for key, _ in pairs}) == len(pairs)
    return dict(pairs)


def json_of(text):
    return json.loads(text, object_pairs_hook=unique)


# Folders of images


def write_classes(folder):
    save(picture("a"), folder / "cat" / "a.png")
    save(picture("b"), folder / "cat" / "b.jpg")
    save(picture("b").convert("P"), folder / "dog" / "a.gif")
    save(picture("a").convert("RGBA"), folder / "dog" / "b.webp", lossless=True)


def read_classes(folder):
    source = data.ImageFolder(folder)
    records = [source[index] for index in range(len(source))]
    return source.class_names, [(x["image"], x["label"]) for x in records]


def true_classes(folder):
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    files = [
        (path, label)
        for label, name in enumerate(names)
        for path in sorted((folder / name).rglob("*"))
        if path.suffix in SUFFIXES and not path.is_dir()
    ]
    assert {label for _, label in files} == set(range(len(names)))
    return names, [(pixels_of(path), label) for path, label in files]


def write_images(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    save(picture("a"), folder / "a.jpg", exif=exif)
    save(picture("b"), folder / "b.png")
    save(picture("b").convert("L"), folder / "c.tif")
    save(picture("a"), folder / "d.bmp")
    save(picture("a"), folder / "e.ppm")


def read_images(folder):
    return [(path.name, data.read_image(path)) for path in find_images([str(folder)])]


def true_images(folder):
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix in SUFFIXES)
    return [(path.name, pixels_of(path)) for path in files]


def write_masks(folder):
    rng = np.random.default_rng(0)
    for name, size in SIZES.items():
        save(picture(name), folder / "images" / "train" / f"{name}.png")
        labels = rng.choice(np.uint8([0, 0, 1, 2, 255]), size)
        save(Image.fromarray(labels), folder / "masks" / "train" / f"{name}.png")


def read_masks(folder):
    source = data.MaskFolder(folder, "train", class_names=("none", "cat", "dog"))
    assert not source.binary
    return [(x["image"], x["labels"]) for x in map(source.__getitem__, range(len(source)))]


def true_masks(folder):
    found, values = [], set()
    for path in sorted((folder / "images" / "train").rglob("*")):
        if path.is_dir():
            continue
        mask = folder / "masks" / "train" / path.relative_to(folder / "images" / "train")
        with Image.open(mask) as image:
            assert image.mode in ("1", "L", "P")
            labels = np.asarray(image).astype(np.uint8)
            values |= set(labels.ravel().tolist()) if image.mode != "1" else set()
        pixels = pixels_of(path)
        assert pixels.shape[:2] == labels.shape
        found.append((pixels, labels))
    assert found
    assert 255 not in values or values - {0, 255}
    return found


# Images with boxes and points


def write_landmarks(folder):
    for name in SIZES:
        save(picture(name), folder / "images" / "train" / f"{name}.png")
    table = 'image,left eye_x,left eye_y,nose_x,nose_y\na.png,1,2.5,3,4\n"b.png",,,7,8\n'
    write_text(folder / "landmarks" / "train.csv", table)


def read_landmarks(folder):
    source = data.LandmarkFolder(folder, "train")
    records = [source[index] for index in range(len(source))]
    return source.class_names, [(x["image"], x["points"], x["visible"]) for x in records]


def true_landmarks(folder):
    text = text_of(folder / "landmarks" / "train.csv")
    first, *lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    names = [cell[:-2] for cell in first[1::2]]
    assert first == ["image", *(f"{name}_{axis}" for name in names for axis in "xy")]
    assert names
    assert len({*names}) == len(names)
    lines = [line for line in lines if line]
    files = [folder / "images" / "train" / line[0] for line in lines]
    there = {path for path in (folder / "images" / "train").rglob("*") if not path.is_dir()}
    assert len({*files}) == len(files)
    assert there <= {*files}
    found = []
    for file, (_, *cells) in zip(files, lines, strict=True):
        pixels, points, visible = pixels_of(file), [], []
        assert len(cells) == 2 * len(names)
        for x, y in zip(cells[::2], cells[1::2], strict=True):
            visible.append(bool(x.strip() or y.strip()))
            points.append((number(x), number(y)) if visible[-1] else (0, 0))
            assert 0 <= points[-1][0] <= pixels.shape[1]
            assert 0 <= points[-1][1] <= pixels.shape[0]
        found.append((pixels, points, visible))
    return names, found


def records_of(source):
    """Sorted by their images, whose files have other orders in other forms."""
    found = []
    for record in map(source.__getitem__, range(len(source))):
        found.append([record[key] for key in ("image", "boxes", "labels", "crowd", "difficult")])
    return source.class_names, found


def checked_boxes(boxes, pixels):
    """Boxes in an image, up to half a pixel, and cut there."""
    height, width = pixels.shape[:2]
    inside = []
    for x1, y1, x2, y2 in boxes:
        assert -0.5 <= x1 < x2 <= width + 0.5
        assert -0.5 <= y1 < y2 <= height + 0.5
        inside.append((max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)))
        assert inside[-1][0] < inside[-1][2]
        assert inside[-1][1] < inside[-1][3]
    return np.array(inside, float).reshape(-1, 4)


BOXES = {"a": [(1, 2, 9, 8, "cat"), (0, 0, 12, 9, "dog")], "b": [(3, 3, 5, 8, "dog")]}


def write_voc(folder):
    for name, objects in BOXES.items():
        height, width = SIZES[name]
        save(picture(name), folder / "JPEGImages" / f"{name} b.png")
        parts = [
            f"<object><name>{label}</name><difficult>{x1 % 2}</difficult><bndbox>"
            f"<xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
            "</bndbox></object>\n"
            for x1, y1, x2, y2, label in objects
        ]
        size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>\n"
        text = f"<annotation>\n{size}{''.join(parts)}</annotation>\n"
        write_text(folder / "Annotations" / f"{name} b.xml", text)
    write_text(folder / "ImageSets" / "Main" / "train.txt", "a b\nb b 1\n")


def read_voc(folder):
    return records_of(data.VocFolder(folder, "train"))


def true_voc(folder):
    roots = {}
    for path in (folder / "Annotations").glob("*.xml"):
        if path.is_file():
            try:
                root = defusedxml.ElementTree.fromstring(path.read_bytes(), forbid_dtd=True)
            except (ValueError, LookupError, SyntaxError):
                continue  # of an image that may not be in the list
            roots[path.stem] = root
    classes = sorted({x.text.strip() for r in roots.values() for x in r.findall(".//object/name")
                      if x.text and x.text.strip()})  # fmt: skip
    names = []
    for line in text_of(folder / "ImageSets" / "Main" / "train.txt").splitlines():
        line = line.strip()
        if line:
            cut = line[:-2].rstrip() if line.endswith((" 1", " 0", "\t1", "\t0")) else line
            cut = line[:-3].rstrip() if line.endswith((" -1", "\t-1")) else cut
            names.append(line if line in roots else cut)
    assert len({*names}) == len(names)
    found = []
    for name in names:
        root, pixels = roots[name], pixels_of(folder / "JPEGImages" / f"{name}.png")
        boxes, labels, difficult = [], [], []
        assert root.tag == "annotation"
        for item in root.iter("object"):
            sides = [one_text(item, f"bndbox/{x}") for x in ("xmin", "ymin", "xmax", "ymax")]
            x1, y1, x2, y2 = map(number, sides)
            boxes.append((x1 - 1, y1 - 1, x2, y2))
            labels.append(classes.index(one_text(item, "name")))
            hard = one_text(item, "difficult") if item.findall("difficult") else "0"
            difficult.append({"0": 0, "1": 1, "": 0}[hard])
        if root.findall("size"):
            size = [number(one_text(root, f"size/{x}")) for x in ("height", "width")]
            assert 0 in size or tuple(size) == pixels.shape[:2]
        crowd = np.zeros(len(boxes), bool)
        found.append([pixels, checked_boxes(boxes, pixels), labels, crowd, difficult])
    return classes, found


def one_text(element, path):
    (found,) = element.findall(path)
    return (found.text or "").strip()


def write_coco(folder):
    images, annotations = [], []
    for number, (name, objects) in enumerate(BOXES.items()):
        height, width = SIZES[name]
        save(picture(name), folder / "images" / f"{name}.png")
        images.append({"id": number, "file_name": f"{name}.png", "width": width, "height": height})
        for x1, y1, x2, y2, label in objects:
            corners = [x1, y1, x2, y1, x2, y2]
            runs = {"size": [height, width], "counts": [3, 5, height * width - 8]}
            annotations.append(
                {
                    "id": len(annotations) + 5,
                    "image_id": number,
                    "category_id": {"cat": 3, "dog": 17}[label],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": 4.5,
                    "iscrowd": x1 % 2,
                    "segmentation": runs if x1 % 2 else [corners],
                }
            )
    categories = [{"id": 17, "name": "dog"}, {"id": 3, "name": "cat"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_text(folder / "annotations" / "train.json", json.dumps(content))


def read_coco(folder):
    source = data.CocoFolder(folder, "train", masks=True)
    names, found = records_of(source)
    for record, parts in zip(map(source.target, range(len(source))), found, strict=True):
        masks = record["masks"]
        parts.append([] if record["area"] is None else record["area"])
        parts.append([] if masks is None else [flat_mask(mask) for mask in masks])
    return names, found


def flat_mask(mask):
    if isinstance(mask, Polygons):
        return [x.ravel() for x in mask.corners]
    return [[*mask.size], mask.counts]


def true_coco(folder):
    content = json_of(text_of(folder / "annotations" / "train.json"))
    images, categories = content["images"], content["categories"]
    for entries, key in ((images, "file_name"), (categories, "name")):
        kinds = {type(entry["id"]) for entry in entries}
        assert kinds <= {int} or kinds <= {str}
        assert len({entry["id"] for entry in entries}) == len(entries)
        assert all(isinstance(entry[key], str) for entry in entries)
    ids = [x["id"] for x in content["annotations"] if type(x.get("id")) in (int, str)]
    assert len({*ids}) == len(ids)
    classes = [entry["name"] for entry in sorted(categories, key=lambda entry: entry["id"])]
    assert len({*classes}) == len(classes)
    order = sorted(entry["id"] for entry in categories)
    found = []
    for entry in sorted(images, key=lambda entry: entry["id"]):
        pixels = pixels_of(folder / "images" / entry["file_name"])
        size = (entry.get("height"), entry.get("width"))
        assert None in size or size == pixels.shape[:2]
        boxes, labels, crowd, areas, masks = [], [], [], [], []
        for item in content["annotations"]:
            assert type(item["image_id"]) in (int, str)
            assert item["image_id"] in [x["id"] for x in images]
            if item["image_id"] != entry["id"]:
                continue
            x, y, width, height = item["bbox"]
            assert {*map(type, item["bbox"])} <= {int, float}
            boxes.append((x, y, x + width, y + height))
            assert type(item["category_id"]) in (int, str)
            labels.append(order.index(item["category_id"]))
            crowd.append({None: 0, 0: 0, 1: 1}[item.get("iscrowd")])
            areas.append(item.get("area"))
            masks.append(true_mask(item.get("segmentation"), pixels))
        areas, masks = ([] if None in map(_none, x) else x for x in (areas, masks))
        assert all(type(x) in (int, float) and 0 <= x < math.inf for x in areas)
        none = np.zeros(len(boxes), bool)
        found.append([pixels, checked_boxes(boxes, pixels), labels, crowd, none, areas, masks])
    return classes, found


def _none(value):
    return None if value is None else 0


def true_mask(segmentation, pixels):
    if segmentation in (None, []):
        return None
    if isinstance(segmentation, list):
        assert all(len(x) >= 6 and not len(x) % 2 for x in segmentation)
        return [np.array(x, float) for x in segmentation]
    size, counts = segmentation["size"], segmentation["counts"]
    assert tuple(size) == pixels.shape[:2]
    assert isinstance(counts, list)
    assert all(type(x) is int and x >= 0 for x in counts)
    assert sum(counts) == math.prod(size)
    return [size, counts]


def write_yolo(folder):
    for name, objects in BOXES.items():
        height, width = SIZES[name]
        save(picture(name), folder / "images" / f"{name}.png")
        lines = [
            f"{['cat', 'dog'].index(label)} {(x1 + x2) / 2 / width:.6f} "
            f"{(y1 + y2) / 2 / height:.6f} {(x2 - x1) / width:.6f} {(y2 - y1) / height:.6f}\n"
            for x1, y1, x2, y2, label in objects
        ]
        write_text(folder / "labels" / f"{name}.txt", "".join(lines))
    write_text(folder / "train.txt", "images/b.png\nimages/a.png\n")
    write_text(folder / "classes.txt", "cat\ndog\n")


def read_yolo(folder):
    return records_of(data.YoloFolder(folder, "train"))


def true_yolo(folder):
    lists = {}
    for name in ("classes", "train"):
        lines = text_of(folder / f"{name}.txt").splitlines()
        lists[name] = [line.strip() for line in lines if line.strip()]
        assert lists[name]
    assert len({*lists["classes"]}) == len(lists["classes"])  # an image may be listed twice
    found = []
    for line in lists["train"]:
        pixels = pixels_of(folder / line)
        labelled = (folder / "labels" / Path(line).name).with_suffix(".txt")
        if not line.startswith("images/"):
            labelled = (folder / line).with_suffix(".txt")
        boxes, labels = [], []
        for text in text_of(labelled).splitlines():
            if text.strip():
                label, *place = map(number, text.split())
                assert label in range(len(lists["classes"]))
                labels.append(label)
                height, width = pixels.shape[:2]
                if len(place) == 4:
                    x, y, w, h = place
                    sides = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
                else:
                    assert len(place) >= 6
                    corners = np.reshape(place, (-1, 2))
                    sides = (*corners.min(axis=0), *corners.max(axis=0))
                boxes.append(np.array(sides) * (width, height, width, height))
        none = np.zeros(len(boxes), bool)
        found.append([pixels, checked_boxes(boxes, pixels), labels, none, none])
    return lists["classes"], found


# Arrays of images


def write_idx(folder):
    rng = np.random.default_rng(0)
    for name, shape in (("train-images-idx3", (5, 4, 3)), ("train-labels-idx1", (5,))):
        values = rng.integers(0, 10, shape).astype(np.uint8)
        header = struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)
        content = gzip.compress(header + values.tobytes())
        (folder / f"{name}-ubyte.gz").write_bytes(content)


def labelled(source):
    return [(source[i]["image"], source[i]["label"]) for i in range(len(source))]


def read_idx(folder):
    return labelled(data.Idx(folder, "train"))


def true_idx(folder):
    arrays = []
    for name, rank in (("train-images-idx3", 3), ("train-labels-idx1", 1)):
        content = gzip.decompress((folder / f"{name}-ubyte.gz").read_bytes())
        assert content[:4] == bytes([0, 0, 8, rank])
        shape = struct.unpack(f">{rank}I", content[4 : 4 + 4 * rank])
        arrays.append(np.array([*content[4 + 4 * rank :]], np.uint8).reshape(shape))
    images, labels = arrays
    assert len(images) == len(labels)
    assert images.size or not len(images)
    return [(image[..., None], label) for image, label in zip(images, labels, strict=True)]


def write_npz(folder):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 3, 2, 3), np.uint8)
    np.savez(folder / "images.npz", x_train=images, y_train=rng.integers(0, 3, 4), more=np.zeros(3))


def read_npz(folder):
    return labelled(data.Npz(folder / "images.npz", "train"))


def true_npz(folder):
    arrays = arrays_of(folder / "images.npz", ["x_train", "y_train"])
    images, labels = arrays["x_train"], arrays["y_train"]
    assert images.dtype == np.uint8
    images = images[..., None] if images.ndim == 3 else images
    assert images.ndim == 4
    assert images.shape[3] in (1, 3)
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    assert labels.dtype.kind in "iu"
    assert (labels >= 0).all()
    return [(image, label) for image, label in zip(images, labels, strict=True)]


PROPOSALS_OF = data.Arrays(np.zeros((3, 9, 11, 3), np.uint8))


def write_proposals(folder):
    rng = np.random.default_rng(0)

    def propose(image):
        corner = rng.uniform(0, 4, (rng.integers(4), 2))
        return np.concatenate([corner, corner + rng.uniform(1, 5, corner.shape)], axis=1)

    data.write_proposals(folder / "proposals.npz", PROPOSALS_OF, propose)


def read_proposals(folder):
    source = data.WithProposals(PROPOSALS_OF, folder / "proposals.npz")
    return [source[index]["proposals"] for index in range(len(source))]


def true_proposals(folder):
    arrays = arrays_of(folder / "proposals.npz", ["boxes", "counts", "sizes"])
    boxes, counts, sizes = arrays["boxes"], arrays["counts"], arrays["sizes"]
    assert boxes.dtype.kind == "f"
    assert counts.dtype.kind in "iu"
    assert sizes.tolist() == [[9, 11]] * 3
    assert boxes.shape == (counts.sum(), 4)
    assert len(counts) == 3
    assert (counts >= 0).all()
    boxes = boxes.astype(np.float32)
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert ((boxes >= -0.5) & (boxes <= np.array([11.5, 9.5] * 2))).all()
    return np.split(boxes, np.cumsum(counts)[:-1])


def arrays_of(path, names=None):
    """Arrays of an archive, of which no two have the same name and no checksum is wrong."""
    with zipfile.ZipFile(path) as file:
        entries = file.namelist()
        assert len({*entries}) == len(entries)
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in names or file.files}


# Weights


def state(dtype=np.float32):
    rng = np.random.default_rng(0)
    return {
        "a.weight": rng.normal(size=(3, 2)).astype(dtype),
        "a.bias": rng.normal(size=3).astype(dtype),
        "n.num_batches_tracked": np.array(7),
    }


def write_weights(suffix, folder):
    write_state_dict(folder / f"weights{suffix}", state())


def read_weights_file(suffix, folder):
    return read_state_dict(folder / f"weights{suffix}")


def true_safetensors(folder):
    path = folder / "weights.safetensors"
    content = path.read_bytes()
    json_of(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return safetensors.numpy.load_file(path)


def true_weights_npz(folder):
    return arrays_of(folder / "weights.npz")


def true_pth(folder):
    import torch

    content = torch.load(folder / "weights.pth", map_location="cpu", weights_only=True)
    return {key: value.numpy() for key, value in content.items()}


VARIABLES = {
    "params": {"conv": {"kernel": np.arange(12, dtype=np.float32).reshape(3, 4)}},
    "batch_stats": {"bn": {"mean": np.ones(4, np.float32)}},
}


def write_variables(folder):
    save_variables(folder / "weights", VARIABLES)


def read_variables(folder):
    return restore_variables(folder / "weights")


def true_variables(folder):
    return VARIABLES


CFG = """\
[net]
height=16
width=16
channels=3

[convolutional]
batch_normalize=1
filters=4
size=3
stride=2
pad=1
activation=leaky

[maxpool]
size=2
stride=2

[convolutional]
filters=7
size=1
activation=linear
"""


def write_darknet(folder):
    write_text(folder / "net.cfg", CFG)
    floats = np.random.default_rng(0).normal(size=4 * 4 + 4 * 27 + 7 + 28).astype("<f4")
    header = struct.pack("<iiiQ", 0, 2, 0, 64)
    (folder / "net.weights").write_bytes(header + floats.tobytes())


def read_darknet(folder):
    description = read_cfg(folder / "net.cfg")
    variables = read_weights(folder / "net.weights", description)
    arrays = [np.asarray(x).ravel() for x in jax.tree.leaves(variables)]
    numbers = np.sort(np.concatenate([np.zeros(0), *arrays]))
    kinds = [layer.section.kind for layer in description.layers]
    return [*description.image], [*map(list, description.sizes())], kinds, numbers


def true_darknet(folder):
    sections = []
    for line in text_of(folder / "net.cfg").splitlines():
        line = re.split("[#;]", line)[0].strip()
        if line.startswith("["):
            assert line.endswith("]")
            sections.append((line[1:-1].strip(), {}))
        elif line:
            name, value = line.split("=", 1)
            sections[-1][1].setdefault(name.strip(), value.strip())
    (first, net), *layers = sections
    assert first in ("net", "network")
    size = [int(number(net[name])) for name in ("height", "width", "channels")]
    image, sizes = [*size], []
    for kind, options in layers:
        given = functools.partial(whole, options)
        if kind in ("convolutional", "conv"):
            window = given("size", 1)
            padding = window // 2 if given("pad", 0) else given("padding", 0)
            places = [(x + 2 * padding - window) // given("stride", 1) + 1 for x in size[:2]]
            size = [*places, given("filters", 1)]
        elif kind in ("maxpool", "max"):
            stride = given("stride", 1)
            window = given("size", stride)
            padding = given("padding", window - 1)
            size = [*((x + padding - window) // stride + 1 for x in size[:2]), size[2]]
        else:
            raise AssertionError(kind)
        sizes.append(size)
    content = (folder / "net.weights").read_bytes()
    major, minor, _ = struct.unpack("<iii", content[:12])
    start = 20 if major * 10 + minor >= 2 and max(major, minor) < 1000 else 16
    numbers = np.sort(np.frombuffer(content[start:], "<f4").astype(float))
    return image, sizes, [kind for kind, _ in layers], numbers


def whole(options, name, default):
    return int(number(options[name])) if name in options else default


# Runs and features


@functools.cache
def trained():
    """The folder of a small run, which is trained once, and what it holds."""
    kept = tempfile.TemporaryDirectory(prefix="fuzz-run-")  # removed at the end of the process
    folder = Path(kept.name)
    images = np.zeros((4, 8, 8, 1), np.uint8)
    source = data.Arrays(images, np.array([0, 1, 0, 1]), class_names=("no", "yes"))
    model = jaxvision.create_model("resnet20", blocks=1, widths=(2,), num_classes=2)
    inputs = jaxvision.Inputs((8, 8), channels=1, mean=(0.5,), std=(0.25,))
    task = tasks.classification(model, inputs, class_names=source.class_names)
    batches = data.TrainLoader(source, data.ToClassification(inputs, 2), batch_size=4, seed=0)
    jaxvision.fit(
        task, optax.sgd(0.1), train=batches, steps=2, checkpoint_every=1, seed=0, workdir=folder,
        options={"rate": 0.5, "parts": ["a", 3]}, log=lambda line: None,
    )  # fmt: skip
    return folder, _read_run(folder), kept


def _read_run(folder):
    run = jaxvision.load_run(folder, step="latest")
    inputs = run.task.inputs
    return (
        [run.step, run.class_names, run.options],
        [inputs.size, inputs.channels, inputs.mean, inputs.std, str(inputs.resize)],
        jax.device_get(run.variables),
    )


def write_run_json(folder):
    """The checkpoints stay sound: they are a link, which is not damaged."""
    shutil.copy(trained()[0] / "run.json", folder)
    (folder / "checkpoints").symlink_to(trained()[0] / "checkpoints")


def read_run(folder):
    return _read_run(folder)


def true_run(folder):
    (step, names, _), inputs, variables = trained()[1]
    options = json_of(text_of(folder / "run.json"))["options"]
    return [step, names, options], inputs, variables


def write_checkpoints(folder):
    shutil.copytree(trained()[0] / "checkpoints", folder / "checkpoints")
    (folder / "run.json").symlink_to(trained()[0] / "run.json")


def true_checkpoints(folder):
    """That of either step: a damaged last one gives way to the one before."""
    found = _read_run(folder)
    expected = trained()[1]
    if found[0][0] == expected[0][0]:
        return expected
    first = jaxvision.load_run(trained()[0], step=1)
    return [1, *expected[0][1:]], expected[1], jax.device_get(first.variables)


def write_features_file(folder):
    features = Features(
        maps={"c1": np.arange(6, dtype=np.float32).reshape(2, 3)},
        indices=np.array([0, 2]),
        labels=np.array([1, 0]),
        files=("a.png", "ä c.png"),
        failed=(),
        class_names=("cat", "dog"),
        origin={"split": "test"},
        about={"model": {"name": "a"}},
    )
    write_features(folder / "a.npz", features)


def read_features_file(folder):
    features = read_features(folder / "a.npz")
    found = features._asdict()
    maps = found.pop("maps")
    if found["labels"] is None:
        del found["labels"]
    return {**found, **maps}


def true_features(folder):
    arrays = arrays_of(folder / "a.npz")
    count = len(arrays["files"])
    texts = ("files", "failed", "class_names")
    for name, x in arrays.items():
        if name in ("origin", "about"):
            assert x.shape == ()
            arrays[name] = json_of(x.item())
            assert isinstance(arrays[name], dict)
        elif name in texts:
            assert x.ndim == 1
            assert x.dtype.kind == "U"
        else:
            assert len(x) == count
            assert x.dtype.kind in ("iu" if name in ("indices", "labels") else "f")
            assert np.isfinite(x).all()
    return arrays


HAS_TORCH = importlib.util.find_spec("torch") is not None

FORMATS = {
    "classes": Format("folders of classes", write_classes, read_classes, true_classes, 0.07, 1),
    "images": Format("images to predict", write_images, read_images, true_images, 0.08, 1),
    "masks": Format("images and masks", write_masks, read_masks, true_masks, 0.08, 1),
    "landmarks": Format(
        "images and landmarks", write_landmarks, read_landmarks, true_landmarks, 0.07, 1
    ),
    "voc": Format("VOC's XML", write_voc, read_voc, true_voc, 0.08, 1),
    "coco": Format("COCO's JSON", write_coco, read_coco, true_coco, 0.09, 1),
    "yolo": Format("YOLO's texts", write_yolo, read_yolo, true_yolo, 0.08, 1),
    "idx": Format("idx.gz", write_idx, read_idx, true_idx, 0.05),
    "npz": Format("npz of images", write_npz, read_npz, true_npz, 0.06),
    "proposals": Format("npz of proposals", write_proposals, read_proposals, true_proposals, 0.06),
    "safetensors": Format(
        "safetensors",
        functools.partial(write_weights, ".safetensors"),
        functools.partial(read_weights_file, ".safetensors"),
        true_safetensors,
        0.05,
    ),
    "weights_npz": Format(
        "npz of weights",
        functools.partial(write_weights, ".npz"),
        functools.partial(read_weights_file, ".npz"),
        true_weights_npz,
        0.05,
    ),
    "variables": Format(
        "folder of variables (Orbax)", write_variables, read_variables, true_variables, 0.02
    ),
    "darknet": Format("Darknet's cfg and weights", write_darknet, read_darknet, true_darknet, 0.06),
    "features": Format(
        "npz of features", write_features_file, read_features_file, true_features, 0.05
    ),
    "run": Format("run.json", write_run_json, read_run, true_run, 0.04),
    "checkpoints": Format(
        "checkpoints of a run", write_checkpoints, read_run, true_checkpoints, 0.02
    ),
}
if HAS_TORCH:
    FORMATS["pth"] = Format(
        "torch's .pth",
        functools.partial(write_weights, ".pth"),
        functools.partial(read_weights_file, ".pth"),
        true_pth,
        0.05,
    )
