"""Small folders of images with boxes, in each form that there is a reader for; and by class."""

import json

import numpy as np
from PIL import Image

# name -> (width, height), and boxes (x1, y1, x2, y2, class) in pixels from 0
IMAGES = {
    "b": ((40, 20), [(0, 0, 10, 20, "dog"), (12, 3, 40, 9, "cat")]),
    "a": ((16, 16), [(4, 4, 5, 6, "cat")]),
    "c": ((8, 8), []),
}
CLASSES = ("cat", "dog")


def paint(name):
    """The image of that name: noise, the same each time."""
    (width, height), _ = IMAGES[name]
    rng = np.random.default_rng(ord(name))
    return rng.integers(0, 256, (height, width, 3), np.uint8)


def write_images(folder):
    folder.mkdir(parents=True)
    for name in IMAGES:
        Image.fromarray(paint(name)).save(folder / f"{name}.png")


def voc_object(x1, y1, x2, y2, name, extra=""):
    return (
        f"<object><name>{name}</name>{extra}<bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin>"
        f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
    )


def voc_xml(name, objects=None):
    (width, height), boxes = IMAGES[name]
    if objects is None:
        objects = "".join(voc_object(*box) for box in boxes)
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation>{size}{objects}</annotation>"


def write_colors(folder, size):
    """FOLDER/SPLIT/CLASS/IMAGE: noise in red or blue, ten of each in train and three in test."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 10), ("test", 3)):
        for name, channel in (("blue", 2), ("red", 0)):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                image = np.zeros((size, size, 3), np.uint8)
                image[..., channel] = rng.integers(128, 256, (size, size))
                Image.fromarray(image).save(folder / split / name / f"{number}.png")
    return folder


def write_voc(folder):
    write_images(folder / "JPEGImages")
    (folder / "Annotations").mkdir()
    for name in IMAGES:
        (folder / "Annotations" / f"{name}.xml").write_text(voc_xml(name))
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    (folder / "ImageSets" / "Main" / "train.txt").write_text("\n".join(IMAGES) + "\n")
    return folder


def coco_content():
    """Image ids fall, category ids have gaps."""
    images, annotations = [], []
    for number, (name, ((width, height), boxes)) in enumerate(IMAGES.items()):
        entry = {"id": 9 - number, "file_name": f"{name}.png", "width": width, "height": height}
        images.append(entry)
        for x1, y1, x2, y2, label in boxes:
            annotations.append(
                {
                    "id": 100 + len(annotations),
                    "image_id": 9 - number,
                    "category_id": {"cat": 3, "dog": 17}[label],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": 1.5,
                    "iscrowd": int(label == "dog"),
                }
            )
    categories = [{"id": 17, "name": "dog"}, {"id": 3, "name": "cat"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_coco(folder, content=None):
    write_images(folder / "images")
    file = folder / "instances.json"
    file.write_text(json.dumps(coco_content() if content is None else content))
    return file


def write_yolo(folder):
    write_images(folder / "images" / "train")
    (folder / "labels" / "train").mkdir(parents=True)
    for name, ((width, height), boxes) in IMAGES.items():
        lines = [
            f"{CLASSES.index(label)} {(x1 + x2) / 2 / width:.6f} {(y1 + y2) / 2 / height:.6f} "
            f"{(x2 - x1) / width:.6f} {(y2 - y1) / height:.6f}\n"
            for x1, y1, x2, y2, label in boxes
        ]
        (folder / "labels" / "train" / f"{name}.txt").write_text("".join(lines))
    (folder / "classes.txt").write_text("cat\ndog\n")
    return folder


def write_instances(folder):
    """Images and label images, in which the pixels of the n-th object are n."""
    write_images(folder / "images" / "train")
    (folder / "instances" / "train").mkdir(parents=True)
    for name, ((width, height), boxes) in IMAGES.items():
        numbers = np.zeros((height, width), np.uint8)
        for number, (x1, y1, x2, y2, _) in enumerate(boxes, start=1):
            numbers[y1:y2, x1:x2] = number
        Image.fromarray(numbers).save(folder / "instances" / "train" / f"{name}.png")
    return folder
