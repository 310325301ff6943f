"""The embedded detection set: real digits on real photographs, as a TFDS builder."""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import sklearn.datasets
import tensorflow_datasets as tfds
from PIL import Image

from jaxvision.core import Record, lookup
from jaxvision.data.sources.digits import encode_png, is_test_digit, prepared
from jaxvision.data.sources.skeletons import Skeleton
from jaxvision.data.sources.source import Source, size_of
from jaxvision.data.sources.tfds_source import TfdsBuilder
from jaxvision.ops import encode_mask

SIZE = 96  # pixels a side
COUNTS = {"train": 4000, "test": 500}
_PHOTOS = {"train": "china.jpg", "test": "flower.jpg"}
_MOST = 6  # digits in a scene
_SIDES = 14, 40  # pixels of a digit's square
_TRIES = 30  # places tried for a digit
_INK = 127  # of 255: what covers a pixel by more belongs to the digit


class JaxvisionScenes(tfds.core.GeneratorBasedBuilder):
    """4,500 scenes of 96x96 pixels: 1 to 6 digits, tinted, on crops of a photograph.

    The digits are the scans that scikit-learn carries, the photographs its "china" and "flower".
    Training scenes show the training digits (see `JaxvisionDigits`) on the first, test scenes the
    test digits on the second. A box holds the pixels that a digit covers by more than a half;
    boxes do not overlap. In the mask these pixels are 1 + the digit, all others 0.
    """

    VERSION = tfds.core.Version("1.0.0")
    most = _MOST

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(SIZE, SIZE, 3), encoding_format="png"),
                    "mask": tfds.features.Image(shape=(SIZE, SIZE, 1), encoding_format="png"),
                    "objects": tfds.features.Sequence(
                        {
                            "bbox": tfds.features.BBoxFeature(),
                            "label": tfds.features.ClassLabel(num_classes=10),
                        }
                    ),
                }
            ),
            homepage="https://archive.ics.uci.edu/dataset/80",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        return {split: self._generate_examples(split) for split in COUNTS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        for index, (image, mask, boxes, labels) in enumerate(scenes(split, self.most)):
            objects = [
                {"bbox": tfds.features.BBox(y1, x1, y2, x2), "label": label}
                for (x1, y1, x2, y2), label in zip(
                    (boxes / SIZE).tolist(), labels.tolist(), strict=True
                )
            ]
            pngs = {"image": encode_png(image), "mask": encode_png(mask)}
            yield index, {**pngs, "objects": objects}


class JaxvisionSingleScenes(JaxvisionScenes):
    """4,500 scenes like those of `JaxvisionScenes`, with exactly one digit each."""

    most = 1


Scene = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def scenes(split: str, most: int = _MOST) -> Iterator[Scene]:
    """Yields the scenes of a split, the same on every machine.

    Args:
      split: "train" or "test".
      most: a scene has 1 to this number of digits.
    Yields:
      image u8[96, 96, 3], mask u8[96, 96], boxes i64[G, 4] (xyxy, pixels), labels i64[G].
    """
    digits = sklearn.datasets.load_digits()
    chosen = is_test_digit(digits.target) == (split == "test")
    scans = np.rint(digits.images[chosen] * (255 / 16)).astype(np.uint8)
    photo = sklearn.datasets.load_sample_image(_PHOTOS[split])
    # RandomState's stream is frozen by numpy's compatibility policy.
    rng = np.random.RandomState(list(COUNTS).index(split))
    for _ in range(COUNTS[split]):
        yield _scene(rng, photo, scans, digits.target[chosen], most)


def _scene(
    rng: np.random.RandomState,
    photo: np.ndarray,
    scans: np.ndarray,
    digits: np.ndarray,
    most: int,
) -> Scene:
    top, left = (rng.randint(side - SIZE + 1) for side in photo.shape[:2])
    image = photo[top : top + SIZE, left : left + SIZE].astype(np.float64)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    boxes, labels = [], []
    for _ in range(rng.randint(1, most + 1)):
        number, side = rng.randint(len(scans)), rng.randint(_SIDES[0], _SIDES[1] + 1)
        # In integers, which are the same on every machine.
        cover = np.asarray(
            Image.fromarray(scans[number]).resize((side, side), Image.Resampling.BICUBIC)
        )
        place = _free_place(rng, cover > _INK, boxes)
        if place is None:
            continue  # the scene has one digit less
        corner, box = place
        window = tuple(slice(start, start + side) for start in corner)
        dark = image[window].mean() > 127  # on light ground, in any tint
        tint = rng.uniform(0, 90, 3) if dark else rng.uniform(165, 255, 3)
        image[window] += cover[:, :, None] / 255 * (tint - image[window])
        mask[window][cover > _INK] = 1 + digits[number]
        boxes.append(box)
        labels.append(digits[number])
    return image.round().astype(np.uint8), mask, np.array(boxes), np.array(labels)


def _free_place(
    rng: np.random.RandomState, ink: np.ndarray, boxes: list[tuple[int, ...]]
) -> tuple[tuple[int, int], tuple[int, ...]] | None:
    """Returns the corner (row, column) of a square and its ink's box, which overlaps no other."""
    rows, columns = np.nonzero(ink)
    for _ in range(_TRIES):
        top, left = (rng.randint(SIZE - len(ink) + 1) for _ in range(2))
        x1, x2 = left + columns.min(), left + columns.max() + 1
        y1, y2 = top + rows.min(), top + rows.max() + 1
        if all(x2 <= a1 or a2 <= x1 or y2 <= b1 or b2 <= y1 for a1, b1, a2, b2 in boxes):
            return (top, left), (x1, y1, x2, y2)
    return None


class SceneLandmarks:
    """The embedded scenes with a landmark for each digit: the centre of its box.

    It is visible where exactly one such digit is in the scene, so that there is no doubt which one
    is meant.

    Args:
      scenes: with boxes.

    Attributes:
      class_names: "digit 0" to "digit 9".
    """

    def __init__(self, scenes: Source):
        self._scenes = scenes
        self.class_names = tuple(f"digit {name}" for name in scenes.class_names)

    def __len__(self) -> int:
        return len(self._scenes)

    def __getitem__(self, index: int) -> Record:
        """Returns a record: "image" u8[H, W, 3], "points" f64[10, 2] (xy, in its pixels), "visible"
        bool[10] and "size" (H, W)."""
        record = self._scenes[index]
        return {"image": record["image"], **self._points(record, record["image"].shape[:2])}

    def where(self, index: int) -> str:
        return self._scenes.where(index)

    def target(self, index: int) -> Record:
        record = self._scenes.target(index)
        return self._points(record, record["size"])

    def _points(self, record: Record, size: tuple[int, int]) -> Record:
        boxes, labels = record["boxes"], record["labels"]
        points = np.zeros((len(self.class_names), 2))
        points[labels] = (boxes[:, :2] + boxes[:, 2:]) / 2
        visible = np.bincount(labels, minlength=len(points)) == 1
        return {"points": points, "visible": visible, "size": size}


SCENE_SKELETON = Skeleton(
    names=("top", "bottom", "left", "right"), limbs=((0, 2), (2, 1), (1, 3), (3, 0))
)
"""The keypoints of a digit."""


class _SceneParts:
    """The embedded scenes with something of each digit that follows from its pixels.

    Args:
      scenes: with boxes.
      masks: the same scenes with labels of pixels, 0 for the background.

    Attributes:
      class_names: of the digits.
    """

    def __init__(self, scenes: Source, masks: Source):
        self._scenes, self._masks = scenes, masks
        self.class_names = scenes.class_names

    def __len__(self) -> int:
        return len(self._scenes)

    def __getitem__(self, index: int) -> Record:
        return self._with_parts(index, self._scenes[index])

    def where(self, index: int) -> str:
        return self._scenes.where(index)

    def target(self, index: int) -> Record:
        return self._with_parts(index, self._scenes.target(index))

    def _with_parts(self, index: int, record: Record) -> Record:
        ink, boxes = self._masks.target(index)["labels"] > 0, np.rint(record["boxes"]).astype(int)
        return {**record, **self._parts(ink, boxes)}

    def _parts(self, ink: np.ndarray, boxes: np.ndarray) -> Record:
        """Returns what a record gets besides, of bool[H, W] and i64[G, 4]."""
        raise NotImplementedError


class SceneKeypoints(_SceneParts):
    """The embedded scenes with the four outermost pixels of each digit as its keypoints.

    These are pixels that the digit covers by more than a half: one of its highest, lowest, leftmost
    and rightmost. Of several, it is the middle one along the edge. Records are those of the scenes
    with "keypoints" f64[G, 4, 3], the centres of the pixels and their visibility, 2.

    Args:
      scenes: with boxes.
      masks: the same scenes with labels of pixels, 0 for the background.

    Attributes:
      class_names: of the digits.
      skeleton: `SCENE_SKELETON`.
    """

    skeleton = SCENE_SKELETON

    def _parts(self, ink: np.ndarray, boxes: np.ndarray) -> Record:
        keypoints = np.zeros((len(boxes), 4, 3))
        for number, (x1, y1, x2, y2) in enumerate(boxes):
            keypoints[number] = extremes(ink[y1:y2, x1:x2]) + np.array([x1, y1, 0])
        return {"keypoints": keypoints}


class SceneInstances(_SceneParts):
    """The embedded scenes with a mask of each digit: the pixels that it covers by more than a half.

    Records are those of the scenes with "masks", a `jaxvision.ops.RunLengths` for each digit.

    Args:
      scenes: with boxes.
      masks: the same scenes with labels of pixels, 0 for the background.

    Attributes:
      class_names: of the digits.
    """

    def _parts(self, ink: np.ndarray, boxes: np.ndarray) -> Record:
        masks = []
        for x1, y1, x2, y2 in boxes:  # no two of them overlap
            mask = np.zeros(ink.shape, bool)
            mask[y1:y2, x1:x2] = ink[y1:y2, x1:x2]
            masks.append(encode_mask(mask))
        return {"masks": tuple(masks)}


def extremes(ink: np.ndarray) -> np.ndarray:
    """Returns the outermost pixels of bool[H, W] as keypoints, f64[4, 3]; see `SceneKeypoints`."""
    rows, columns = np.nonzero(ink)
    result = []
    for across, along in ((rows, columns), (-rows, columns), (columns, rows), (-columns, rows)):
        outermost = np.flatnonzero(across == across.min())
        order = outermost[np.argsort(along[outermost])]
        middle = order[(order.size - 1) // 2]
        result.append((columns[middle] + 0.5, rows[middle] + 0.5, 2))
    return np.array(result)


class Scenes:
    """The embedded scenes of digits on photographs, 96 x 96 RGB; they are prepared on first use.

    Records are, by `kind`: as those of `Tfds` for detection and segmentation (the background is 0,
    the digit d is 1 + d), as those of `SceneLandmarks` for landmarks, as those of `SceneKeypoints`
    for keypoints, and as those of `SceneInstances` for instances.

    Args:
      split: "train" or "test".
      kind: "detection", "segmentation", "landmarks", "keypoints" or "instances".
      dir: TFDS's folder; None: TFDS's own.
      single: whether each scene has exactly one digit, instead of 1 to 6; the scenes are others.

    Attributes:
      class_names: of the kind's labels or landmarks.
      skeleton: of the digits' keypoints, for kind "keypoints"; None for the others.
    Raises:
      InputError: there is no such split, the folder cannot be written, or as for `Tfds`.
    """

    def __init__(
        self,
        split: str,
        *,
        kind: str = "detection",
        dir: str | os.PathLike[str] | None = None,
        single: bool = False,
    ):
        make = lookup(_KINDS, kind, "kind")
        self._source = make(
            prepared(JaxvisionSingleScenes if single else JaxvisionScenes, dir), split
        )
        self.class_names = self._source.class_names
        self.skeleton = getattr(self._source, "skeleton", None)
        if kind == "segmentation":
            self.class_names = ("background", *_DIGITS)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Record:
        return self._source[index]

    def where(self, index: int) -> str:
        return self._source.where(index)

    def target(self, index: int) -> Record:
        return self._source.target(index)

    def size(self, index: int) -> tuple[int, int]:
        """Returns the (height, width) of an image, see `size_of`."""
        return size_of(self._source, index)


_DIGITS = tuple("0123456789")


def _with_boxes(builder: tfds.core.DatasetBuilder, split: str) -> TfdsBuilder:
    return TfdsBuilder(builder, split, kind="detection")


def _with_masks(builder: tfds.core.DatasetBuilder, split: str) -> TfdsBuilder:
    return TfdsBuilder(builder, split, kind="segmentation", mask="mask", binary=False)


def _with_landmarks(builder: tfds.core.DatasetBuilder, split: str) -> SceneLandmarks:
    return SceneLandmarks(_with_boxes(builder, split))


def _with_keypoints(builder: tfds.core.DatasetBuilder, split: str) -> SceneKeypoints:
    return SceneKeypoints(_with_boxes(builder, split), _with_masks(builder, split))


def _with_instances(builder: tfds.core.DatasetBuilder, split: str) -> SceneInstances:
    return SceneInstances(_with_boxes(builder, split), _with_masks(builder, split))


_KINDS = {
    "detection": _with_boxes,
    "segmentation": _with_masks,
    "landmarks": _with_landmarks,
    "keypoints": _with_keypoints,
    "instances": _with_instances,
}
