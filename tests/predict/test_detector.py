"""From files to detections: one compiled function, and boxes in pixels of the originals."""

import jax
import numpy as np
import pytest
from PIL import Image

from jaxvision.core import Detections, InputError
from jaxvision.interop import DarknetNetwork, parse_cfg
from jaxvision.predict import (
    Failed,
    Found,
    Predictor,
    detect_in_files,
    predict_of_darknet,
    predict_of_task,
)
from jaxvision.tasks.yolo import detect, yolov1_candidates, yolov2_candidates, yolov3_candidates
from tests.models.variables import random_variables
from tests.tasks.test_detection import SIZE, batch_of, task_of, variables_of


def test_the_prediction_of_a_task_is_prepare_forward_and_decode():
    task, variables, batch = task_of("yolov2"), variables_of("yolov2"), batch_of()
    found = predict_of_task(task)(variables, batch.image)
    prepared = jax.vmap(task.prepare)(batch)
    outputs, _ = task.forward(variables, prepared, keys=None, step=0, train=False)
    expected = jax.jit(jax.vmap(task.decode))(outputs)
    assert found.valid.any()
    for name in ("boxes", "scores", "labels", "valid"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-5)


def fixed(variables, images):
    """Two objects in every image, of which the second is no object; the score tells the image."""
    count = len(images)
    return Detections(
        boxes=np.tile(np.float32([[8, 4, 16, 12], [1, 1, 2, 2]]), (count, 1, 1)),
        scores=images.reshape(count, -1).max(axis=1)[:, None] / np.float32([[255, 255]]),
        labels=np.tile(np.int32([1, 0]), (count, 1)),
        valid=np.tile([True, False], (count, 1)),
    )


@pytest.fixture
def files(tmp_path):
    """A wide, a high and a small image, and between them one that is none."""
    sizes = {"wide": (32, 64), "high": (64, 16), "small": (8, 8)}
    paths = []
    for number, (name, size) in enumerate(sizes.items(), start=1):
        paths.append(tmp_path / f"{name}.png")
        Image.fromarray(np.full((*size, 3), 50 * number, np.uint8)).save(paths[-1])
    (tmp_path / "broken.png").write_bytes(b"no picture")
    return [*paths[:1], tmp_path / "broken.png", *paths[1:]]


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_boxes_are_in_pixels_of_each_file_and_a_bad_file_stops_nothing(files, batch_size):
    detector = Predictor(fixed, None, (16, 32), "stretch", ("cat", "dog"))
    wide, broken, high, small = detect_in_files(detector, files, batch_size=batch_size)
    assert broken == Failed(files[1], broken.reason)
    assert str(files[1]) in broken.reason
    assert [x.path for x in (wide, high, small)] == [files[0], files[2], files[3]]
    # The input of 16 x 32 is 64 x 32, 16 x 64 and 8 x 8 pixels of the files.
    np.testing.assert_allclose(wide.boxes, [[16, 8, 32, 24]])
    np.testing.assert_allclose(high.boxes, [[4, 16, 8, 48]])
    np.testing.assert_allclose(small.boxes, [[2, 2, 4, 6]])
    for number, found in enumerate((wide, high, small), start=1):
        assert isinstance(found, Found)
        assert found.labels.tolist() == [1]
        np.testing.assert_allclose(found.scores, [50 * number / 255], rtol=1e-6)
        assert (found.image == 50 * number).all()


def test_boxes_of_a_letterboxed_image_are_clipped_to_it(files):
    detector = Predictor(fixed, None, (16, 16), "letterbox", ("cat", "dog"))
    (high,) = detect_in_files(detector, files[2:3])
    # 64 x 16 stands in columns 6 to 9, four times smaller: of columns 8 to 16, 8 to 10 are in it.
    np.testing.assert_allclose(high.boxes, [[8, 16, 16, 48]])


def test_the_size_of_batches_changes_nothing(files):
    task, variables = task_of("yolov2"), variables_of("yolov2")
    predict = predict_of_task(task)
    detector = Predictor(predict, variables, (SIZE, SIZE), "letterbox", ("cat", "dog", "cow"))
    results = [list(detect_in_files(detector, files, batch_size=size)) for size in (1, 2, 4)]
    assert sum(len(found.boxes) for found in results[0] if isinstance(found, Found)) > 0
    for result in results[1:]:
        for one, other in zip(results[0], result, strict=True):
            if isinstance(one, Found):
                np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-3)
                np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)


def test_a_batch_of_bad_files_only(tmp_path):
    detector = Predictor(fixed, None, (16, 16), "letterbox", ("cat",))
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    assert [type(x) for x in detect_in_files(detector, paths, batch_size=2)] == [Failed, Failed]
    with pytest.raises(InputError, match="batch_size is 0"):
        list(detect_in_files(detector, paths, batch_size=0))


NET = "[net]\nheight=32\nwidth=32\nchannels=3\n"
CONV = "[conv]\nfilters={}\nsize=3\nstride={}\npad=1\nactivation=linear\n"
REGION = "[region]\nanchors=1,1,2,1.5\nnum=2\nclasses=3\ncoords=4\nsoftmax={}\n"
YOLO = "[yolo]\nmask={}\nanchors=4,6,9,9,16,12\nnum=3\nclasses=3\n"
CFGS = {
    "detection": NET
    + CONV.format(4, 8)
    + "[connected]\noutput=208\nactivation=linear\n"
    + "[detection]\nside=4\nnum=2\nclasses=3\ncoords=4\nsqrt=1\nsoftmax=0\n",
    "region": NET + CONV.format(16, 8) + REGION.format(1),
    "yolo": NET
    + CONV.format(8, 8)
    + YOLO.format("2")
    + "[route]\nlayers=-2\n[upsample]\nstride=2\n"
    + CONV.format(16, 1)
    + YOLO.format("0,1"),
}


def candidates_of(kind, maps):
    if kind == "detection":
        parts = (maps[name] for name in ("coordinates", "confidence", "class_scores"))
        return yolov1_candidates(*parts, image_size=(32, 32))
    if kind == "region":
        return yolov2_candidates(maps["region1"], np.float32([[8, 8], [16, 12]]), stride=8)
    anchors = [np.float32([[16, 12]]), np.float32([[4, 6], [9, 9]])]
    return yolov3_candidates([maps["yolo1"], maps["yolo5"]], anchors, strides=(8, 4))


@pytest.mark.parametrize("kind", CFGS)
def test_darknets_heads_are_read_as_the_versions_of_yolo(kind):
    description = parse_cfg(CFGS[kind])
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    network = DarknetNetwork(description)
    variables = random_variables(network, images / np.float32(255))
    options = {"score_threshold": 0.01, "iou_threshold": 0.3, "max_detections": 20}
    found = predict_of_darknet(description, **options)(variables, images)

    @jax.jit
    def one(image):
        maps = network.apply(variables, image[None] / 255, train=False)
        boxes, scores = candidates_of(kind, {name: x[0] for name, x in maps.items()})
        return detect(boxes, scores, image_size=(32, 32), **options)

    assert found.valid.any()
    for number in range(2):
        expected = one(images[number])
        for name in ("boxes", "scores", "labels", "valid"):
            value = getattr(found, name)[number]
            np.testing.assert_allclose(value, getattr(expected, name), rtol=1e-4, atol=1e-4)


def test_classes_of_a_region_without_softmax_do_not_exclude_each_other():
    images = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    scores = []
    for softmax in (0, 1):
        description = parse_cfg(NET + CONV.format(16, 8) + REGION.format(softmax))
        variables = random_variables(DarknetNetwork(description), images / np.float32(255))
        found = predict_of_darknet(description, iou_threshold=1.0)(variables, images)
        scores.append(np.sort(found.scores[0]))
    assert scores[0].sum() > scores[1].sum() * 1.05


def test_a_description_of_a_classifier_finds_nothing():
    classifier = NET + CONV.format(3, 2) + "[avg]\n[softmax]\n"
    with pytest.raises(InputError, match=r"is no detector: it has no .detection., .region. or"):
        predict_of_darknet(parse_cfg(classifier))
