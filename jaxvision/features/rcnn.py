"""R-CNN (Girshick, Donahue, Darrell & Malik 2014, "Rich feature hierarchies for accurate object
detection and semantic segmentation"): regions with features of a classifier.

Each proposal is cut out, warped to the size of a classifier's input and run through its network.
Linear support vector machines classify the features, and a linear regression moves the box. The
steps are:

    crops = region_examples(source, size=(227, 227))        # to fine-tune a classifier on
    features = RegionFeatures(task, variables)              # of the fine-tuned classifier
    detector = fit_rcnn(features, source, num_classes=20)
    found = detector.detect(image, proposals)
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxvision.augment.sampling import resized_crop
from jaxvision.core import (
    Detections,
    ImageBatch,
    InputError,
    Record,
    Task,
    check_array,
    check_range,
)
from jaxvision.data import Arrays, Source
from jaxvision.features.features import choose_maps, features_of_maps
from jaxvision.metrics.detection_groups import paired_box_iou
from jaxvision.ops import clip_boxes_to_image, decode_boxes, encode_boxes, multiclass_nms
from jaxvision.tasks.inference import outputs_of

CONTEXT = 16
"""Pixels of a region's surroundings at each side of its warped crop, as in the paper."""
_NORM = 20.0  # to which the mean norm of features is scaled, as in the authors' program


def crop_regions(
    image: Array,
    boxes: Array,
    *,
    size: tuple[int, int],
    context: int = CONTEXT,
    fill: float | tuple[float, ...] = 127.0,
) -> Array:
    """Cuts regions out of an image and warps each to one size, whatever its aspect ratio.

    Args:
      image: u8[H, W, C].
      boxes: f32[R, 4], xyxy, pixels of the image.
      size: (height, width) of the crops.
      context: pixels at each side of a crop that show what surrounds the box.
      fill: value of the pixels outside the image, or one for each channel.
    Returns:
      u8[R, height, width, C], antialiased.
    Raises:
      InputError: the context leaves no pixel for the box.
    Source: Girshick et al. 2014 ("R-CNN"), appendix A.
    """
    check_range("context", context, least=0, less_than=min(size) / 2)
    boxes = check_array("boxes", boxes, ("R", 4))
    sides = boxes[:, 2:] - boxes[:, :2]
    inner = jnp.array(size[::-1], jnp.float32) - 2 * context
    around = sides * context / inner[None]
    windows = jnp.concatenate([boxes[:, :2] - around, boxes[:, 2:] + around], axis=1)
    crop = partial(resized_crop, image, size=size, method="antialiased", fill=fill)
    return jnp.clip(jnp.round(jax.vmap(crop)(windows)), 0, 255).astype(jnp.uint8)


_crops = jax.jit(crop_regions, static_argnames=("size", "context", "fill"))


class RegionFeatures:
    """Computes features of the regions of an image, by one forward pass for each region.

    Args:
      task: of the classifier; its `inputs` say the size of crops and, by their mean, what is
        outside the image.
      variables: of its network.
      map: of the network, "pooled" or "c5", for example.
      flatten: keep all places of the map, by which boxes can be moved, instead of their mean.
      context: see `crop_regions`.
      batch_size: regions in a forward pass.
    Raises:
      InputError: the batch size is below 1; or, in a call, the network gives no such map.
    """

    def __init__(
        self,
        task: Task,
        variables: Any,
        *,
        map: str = "pooled",
        flatten: bool = False,
        context: int = CONTEXT,
        batch_size: int = 64,
    ):
        check_range("batch_size", batch_size, least=1)
        self.batch_size = batch_size
        self._variables = jax.device_put(variables)
        fill = tuple(255 * x for x in task.inputs.mean)
        how = {"size": task.inputs.shape[:2], "context": context, "fill": fill}

        def run(variables: Any, image: Array, boxes: Array) -> Array:
            crops = crop_regions(image, boxes, **how)
            maps = outputs_of(task, variables, ImageBatch(crops, jnp.ones(len(boxes), bool)))
            (name,) = choose_maps(maps, [map])
            return features_of_maps(maps, [name], flatten=flatten)[name]

        self._run = jax.jit(run)

    def __call__(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Computes the features of boxes f[R, 4], xyxy, pixels of image u8[H, W, C]: f32[R, D]."""
        boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
        batches = _filled(boxes, self.batch_size).reshape(-1, self.batch_size, 4)
        parts = [self._run(self._variables, image, batch) for batch in batches]
        return np.concatenate(jax.device_get(parts))[: len(boxes)]


def region_examples(
    source: Source,
    *,
    size: tuple[int, int],
    context: int = CONTEXT,
    fill: float | tuple[float, ...] = 127.0,
    per_image: int = 32,
    positive_fraction: float = 0.25,
    positive_iou: float = 0.5,
    seed: int = 0,
) -> Arrays:
    """Draws crops of regions as images with a class, to fine-tune a classifier on.

    A proposal has the class of the object that it overlaps most, if their IoU is at least
    `positive_iou`; otherwise it is background, which is class 0. The objects' own boxes are
    proposals too; crowds and difficult objects are none.

    Args:
      source: `jaxvision.data.WithProposals`, of images with boxes.
      size: (height, width) of the crops; all are held in memory.
      context: see `crop_regions`.
      fill: likewise.
      per_image: most crops of an image.
      positive_fraction: the largest fraction of them that have an object.
      positive_iou: the least IoU with it.
      seed: of the sample.
    Raises:
      InputError: an option is out of range.
    Source: Girshick et al. 2014 ("R-CNN"), section 2.3.
    """
    check_range("per_image", per_image, least=1)
    check_range("positive_fraction", positive_fraction, least=0, most=1)
    check_range("positive_iou", positive_iou, more_than=0, most=1)
    rng = np.random.RandomState(seed)
    images, labels = [], []
    for index in range(len(source)):
        record = source[index]
        boxes, objects = _regions(record, source.where(index)), _real(record)
        iou = _iou(boxes, np.asarray(record["boxes"])[objects])
        classes = np.zeros(len(boxes), np.int64)
        if iou.size:
            found = np.asarray(record["labels"])[objects][iou.argmax(axis=1)]
            classes = np.where(iou.max(axis=1) >= positive_iou, 1 + found, 0)
        order = rng.permutation(len(boxes))
        with_object = order[classes[order] > 0][: int(per_image * positive_fraction)]
        rest = order[classes[order] == 0][: per_image - len(with_object)]
        chosen = np.concatenate([with_object, rest])
        how = {"size": size, "context": context, "fill": fill}
        crops = _crops(record["image"], _filled(boxes[chosen], per_image), **how)
        images.append(np.asarray(crops)[: len(chosen)])
        labels.append(classes[chosen])
    return Arrays(
        np.concatenate(images),
        np.concatenate(labels),
        class_names=("background", *source.class_names),
    )


class RCNN(NamedTuple):
    """A fitted R-CNN.

    Attributes:
      features: of the regions.
      scale: by which features are multiplied.
      kernel: f32[D, K], of the support vector machines.
      bias: f32[K]; -inf for a class that had no objects.
      box_kernel: f32[K, D, 4], of the regression.
      box_bias: f32[K, 4].
    """

    features: RegionFeatures
    scale: float
    kernel: np.ndarray
    bias: np.ndarray
    box_kernel: np.ndarray
    box_bias: np.ndarray

    def detect(
        self,
        image: np.ndarray,
        proposals: np.ndarray,
        *,
        score_threshold: float = -1.0,
        iou_threshold: float = 0.3,
        max_detections: int = 100,
    ) -> Detections:
        """Detects objects among the proposals of an image.

        Args:
          image: u8[H, W, C].
          proposals: f[R, 4], xyxy, pixels.
          score_threshold: a proposal counts for a class whose score is above this; the score is the
            signed distance from the plane that separates it, 1 at the margin.
          iou_threshold: a box is suppressed if its IoU with a better one of its class is above
            this.
          max_detections: N.
        Returns:
          the detections, N in all, boxes in pixels of the image, on the host.
        """
        boxes = np.asarray(proposals, np.float32).reshape(-1, 4)
        x = self.scale * self.features(image, boxes)
        scores = x @ self.kernel + self.bias
        deltas = np.einsum("rd,kdc->rkc", x, self.box_kernel) + self.box_bias
        step = self.features.batch_size  # few numbers of rows, so that few programs are compiled
        scores = _filled(scores, step, fill=-np.inf)
        found = _detections(
            _filled(deltas, step),
            _filled(boxes, step),
            scores,
            np.array(image.shape[:2], np.float32),
            max_detections=max_detections,
            iou_threshold=iou_threshold,
            score_threshold=score_threshold,
        )
        return jax.device_get(found)


@partial(jax.jit, static_argnames=("max_detections",))
def _detections(
    deltas: Array, boxes: Array, scores: Array, size: Array, *, max_detections: int, **how: Any
) -> Detections:
    moved = decode_boxes(deltas, jnp.broadcast_to(boxes[:, None], deltas.shape))
    moved = clip_boxes_to_image(moved, size)
    rows, labels, valid = multiclass_nms(moved, scores, max_detections=max_detections, **how)
    found = jnp.where(valid[:, None], moved[rows, labels], 0)
    return Detections(found, jnp.where(valid, scores[rows, labels], 0), labels, valid)


def fit_rcnn(
    features: RegionFeatures,
    source: Source,
    num_classes: int,
    *,
    negative_iou: float = 0.3,
    negatives_per_image: int = 16,
    mining_rounds: int = 1,
    svm_c: float = 1e-3,
    regression_iou: float = 0.6,
    ridge: float = 1000.0,
    seed: int = 0,
) -> RCNN:
    """Fits the classifiers and the regression of an R-CNN to the features of a source's regions.

    For each class, a linear support vector machine (scikit-learn's `LinearSVC`) tells the objects'
    own boxes from proposals whose IoU with all objects of the class is below `negative_iou`. It
    begins with a random sample of these; each round of hard-negative mining adds all those that are
    within its margin or on the wrong side, and fits it again. Ridge regression predicts from the
    features of a proposal how its box has to be moved to the object. Features are scaled to a mean
    norm of 20. The features of all regions are held in memory.

    Args:
      features: of a fine-tuned classifier.
      source: `jaxvision.data.WithProposals`, of images with boxes.
      num_classes: K.
      negative_iou: of proposals that are no object of the class.
      negatives_per_image: size of the first sample.
      mining_rounds: 0: no hard-negative mining.
      svm_c: weight of the errors of the support vector machine.
      regression_iou: least IoU of the proposals that the regression is fitted to with an object.
      ridge: weight of the regression's penalty.
      seed: of the sample.
    Raises:
      InputError: an option is out of range, a record has no proposals, or there are no objects.
    Source: Girshick et al. 2014 ("R-CNN"), sections 2.3 and appendix C.
    """
    check_range("negative_iou", negative_iou, more_than=0, most=1)
    check_range("negatives_per_image", negatives_per_image, least=1)
    check_range("mining_rounds", mining_rounds, least=0)
    check_range("svm_c", svm_c, more_than=0)
    check_range("regression_iou", regression_iou, more_than=0, most=1)
    check_range("ridge", ridge, least=0)
    images = []
    for index in range(len(source)):
        record = source[index]
        boxes = _regions(record, source.where(index))
        iou = _iou(boxes, np.asarray(record["boxes"]))
        images.append(_Image(record, boxes, iou, features(record["image"], boxes)))
    if not any(_real(image.record).any() for image in images):
        raise InputError("the source has no objects to fit an R-CNN to: give images with objects")
    x = np.concatenate([image.features for image in images])
    scale = _NORM / max(np.linalg.norm(x, axis=1).mean().item(), 1e-12)
    x = scale * x
    random = np.random.RandomState(seed).random_sample(len(x))
    start = np.cumsum([0, *(len(image.boxes) for image in images)])[:-1]
    first = np.concatenate(
        [
            _smallest(random[s : s + len(i.boxes)], negatives_per_image)
            for s, i in zip(start, images, strict=True)
        ]
    )
    kernel, bias = np.zeros((x.shape[1], num_classes)), np.full(num_classes, -np.inf)
    box_kernel, box_bias = np.zeros((num_classes, x.shape[1], 4)), np.zeros((num_classes, 4))
    for label in range(num_classes):
        own = [_of_class(image, label) for image in images]
        positive = np.concatenate([part.positive for part in own])
        negative = np.concatenate([part.best < negative_iou for part in own])
        if positive.any() and negative.any():
            svm = partial(_separate, x, positive, negative, c=svm_c)
            kernel[:, label], bias[label] = svm(first, rounds=mining_rounds)
        near = np.concatenate([part.best_real >= regression_iou for part in own])
        if near.any():
            boxes = np.concatenate([image.boxes for image in images])[near]
            targets = np.concatenate([part.nearest for part in own])[near]
            moves = np.asarray(encode_boxes(targets, boxes))
            box_kernel[label], box_bias[label] = _regress(x[near], moves, ridge)
    single = (y.astype(np.float32) for y in (kernel, bias, box_kernel, box_bias))
    return RCNN(features, scale, *single)


class _Image(NamedTuple):
    """The regions of an image: proposals, and the objects' boxes after them."""

    record: Record
    boxes: np.ndarray
    iou: np.ndarray
    features: np.ndarray


class _OfClass(NamedTuple):
    """The regions of an image, as one class sees them.

    Attributes:
      positive: bool[R], the objects' own boxes.
      best: f64[R], the highest IoU with an object of the class.
      best_real: f64[R], the same without crowds and difficult objects.
      nearest: f32[R, 4], the object with this IoU.
    """

    positive: np.ndarray
    best: np.ndarray
    best_real: np.ndarray
    nearest: np.ndarray


def _of_class(image: _Image, label: int) -> _OfClass:
    boxes = np.asarray(image.record["boxes"], np.float32).reshape(-1, 4)
    same, real = np.asarray(image.record["labels"]) == label, _real(image.record)
    positive = np.zeros(len(image.boxes), bool)
    positive[len(positive) - real.sum() :] = same[real]
    best = image.iou[:, same].max(axis=1, initial=0)
    of_real = np.where((same & real)[None], image.iou, 0)
    if not of_real.size:
        return _OfClass(positive, best, np.zeros(len(best)), image.boxes)
    return _OfClass(positive, best, of_real.max(axis=1), boxes[of_real.argmax(axis=1)])


def _separate(
    x: np.ndarray,
    positive: np.ndarray,
    negative: np.ndarray,
    first: np.ndarray,
    *,
    c: float,
    rounds: int,
) -> tuple[np.ndarray, float]:
    """The plane between the positive rows and the negative ones: (f[D], its offset)."""
    from sklearn.svm import LinearSVC  # slow to import

    used = negative & first
    if not used.any():
        used = negative
    for number in range(rounds + 1):
        rows = positive | used
        # As in the authors' program, a scale of 10 lets the penalty hardly reach the offset.
        svm = LinearSVC(C=c, intercept_scaling=10, dual="auto", random_state=0, max_iter=10_000)
        svm.fit(x[rows], positive[rows])
        hard = negative & (svm.decision_function(x) > -1)
        if number == rounds or not (hard & ~used).any():
            break
        used = used | hard
    return svm.coef_[0], svm.intercept_[0]


def _regress(x: np.ndarray, y: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Ridge regression of f[N, 4] on f[N, D]: (f[D, 4], its offset f[4])."""
    from sklearn.linear_model import Ridge  # slow to import

    fitted = Ridge(alpha=penalty).fit(x, y)
    return fitted.coef_.T, fitted.intercept_


def _regions(record: Record, where: str) -> np.ndarray:
    """The proposals of a record and, after them, the boxes of its objects: f32[R, 4]."""
    if "proposals" not in record:
        raise InputError(f"{where}: has no proposals: give a source WithProposals")
    objects = np.asarray(record["boxes"], np.float32).reshape(-1, 4)[_real(record)]
    return np.concatenate([np.asarray(record["proposals"], np.float32), objects])


def _real(record: Record) -> np.ndarray:
    """Which objects of a record are neither crowds nor difficult: bool[G]."""
    return ~(np.asarray(record["crowd"], bool) | np.asarray(record["difficult"], bool))


def _iou(boxes: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """The IoU of each pair: f64[R, G]."""
    shape, none = (len(boxes), len(objects)), np.zeros(len(boxes) * len(objects), bool)
    pairs = np.repeat(boxes, shape[1], axis=0), np.tile(objects.reshape(-1, 4), (shape[0], 1))
    return paired_box_iou(*(x.astype(np.float64) for x in pairs), none).reshape(shape)


def _smallest(values: np.ndarray, count: int) -> np.ndarray:
    """Marks the smallest values: bool[N]."""
    chosen = np.zeros(len(values), bool)
    chosen[np.argsort(values, kind="stable")[:count]] = True
    return chosen


def _filled(rows: np.ndarray, step: int, *, fill: float = 0.0) -> np.ndarray:
    """Fills rows up to a multiple of a number, at least to one."""
    count = step * max(1, -(-len(rows) // step))
    more = np.full((count - len(rows), *rows.shape[1:]), fill, rows.dtype)
    return np.concatenate([rows, more])
