"""Tasks of networks in bfloat16: the losses, what they are made of and the state are float32."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvision.core import (
    AXIS,
    ClassificationBatch,
    DetectionBatch,
    Inputs,
    Keys,
    LandmarkBatch,
    RestorationBatch,
    SegmentationBatch,
)
from jaxvision.engine import Phase, abstract_state
from jaxvision.engine.phases import Stage
from jaxvision.engine.update import device_update
from jaxvision.models import create_model
from jaxvision.tasks import (
    classification,
    detection,
    detectors,
    landmarks,
    restoration,
    segmentation,
)
from tests.marks import long_but
from tests.models import test_faster_rcnn, test_one_stage, test_unet, test_yolo
from tests.models.tiny import NETWORKS, darknet
from tests.models.variables import random_values
from tests.tasks import test_yolo9000

HALF = {"dtype": "bfloat16"}
BOXES = np.float32([[3, 5, 40, 30], [30, 20, 60, 60], [0, 0, 0, 0]])


def images_of(size, channels=3):
    return np.random.default_rng(0).integers(0, 256, (2, *size, channels), np.uint8)


def of_both(**fields):
    """The same for two examples."""
    return {name: np.stack([x, x]) for name, x in fields.items()} | {"mask": np.ones(2, bool)}


def classes():
    model = create_model("resnet20", num_classes=10, blocks=1, widths=(4, 6), **HALF)
    task = classification(model, Inputs((8, 8)), class_names=10)
    more = of_both(label=np.int32(3), weight=np.float32(0.5))
    return task, ClassificationBatch(image=images_of((8, 8)), **more)


def pixels():
    model = test_unet.tiny("unet_backbone", **HALF)
    task = segmentation(model, Inputs((32, 32)), class_names=3)
    labels = np.arange(32 * 32, dtype=np.uint8).reshape(32, 32) % 3
    return task, SegmentationBatch(image=images_of((32, 32)), **of_both(labels=labels))


def points():
    task = landmarks(
        test_unet.tiny("unet", **HALF), Inputs((32, 32)), landmark_names=("a", "b", "c")
    )
    where = {"points": np.float32([[3, 5], [20, 9], [8, 30]]), "visible": np.ones(3, bool)}
    return task, LandmarkBatch(image=images_of((32, 32)), **of_both(**where))


def photographs():
    task = restoration(create_model("dncnn_s", depth=3, width=4, **HALF), Inputs((32, 32)))
    more = of_both(
        seed=np.uint32(1),
        photograph=np.int32(0),
        origin=np.zeros(2, np.int32),
        size=np.full(2, 32, np.int32),
    )
    return task, RestorationBatch(image=images_of((32, 32)), **more)


def objects(make, size=(64, 64), names=3, **more):
    """A detector with three boxes an image, one of them padding."""
    detector = make()
    task = detection(detector, Inputs(size), class_names=names)
    count = detector.num_keypoints
    if detector.masks:
        more |= {"masks": np.full((3, 8, 8), 255, np.uint8), "mask_frames": BOXES}
    if count:
        more |= {"keypoints": np.tile(np.float32([20, 20, 1]), (3, count, 1))}
    if detector.proposals:
        more |= {"proposals": BOXES + np.float32(2), "proposal_mask": np.ones(3, bool)}
    none = np.zeros(3, bool)
    batch = DetectionBatch(
        image=images_of(size),
        **of_both(
            boxes=BOXES,
            labels=np.int32([1, 0, 0]),
            box_mask=np.bool_([True, True, False]),
            crowd=none,
            difficult=none,
            extent=np.array(size, np.int32),
            **more,
        ),
    )
    return task, batch


def yolo(constructor, name, maps=1):
    model = test_yolo.tiny(name, **HALF)
    anchors = [(6 * n, 5 * n) for n in range(1, 1 + maps * model.num_anchors)]
    return constructor(model, anchors=anchors)


def tree():
    return detectors.yolo9000(
        test_yolo9000.model_of(**HALF), test_yolo9000.ANCHORS, test_yolo9000.TREE
    )


def rcnn(constructor=detectors.faster_rcnn, **fields):
    options = {"keypoint_sigmas": (0.1,) * 5} if "keypoint_head" in fields else {}
    return constructor(test_faster_rcnn.tiny(**fields, **HALF), **options)


def one_stage(constructor, name, **options):
    return constructor(test_one_stage.tiny(name, **HALF), **options)


TASKS = {
    "classification": classes,
    "segmentation": pixels,
    "landmarks": points,
    "restoration": photographs,
    "darknet": partial(objects, lambda: detectors.darknet(darknet(**HALF)), (32, 32)),
    "localizer": partial(
        objects, lambda: detectors.localizer(NETWORKS["localizer"][0](**HALF)), (16, 16)
    ),
    "yolov1": partial(
        objects, lambda: detectors.yolov1(test_yolo.tiny("yolov1", **HALF)), (128, 128)
    ),
    "yolov2": partial(objects, partial(yolo, detectors.yolov2, "yolov2")),
    "yolov3": partial(objects, partial(yolo, detectors.yolov3, "yolov3_spp", 3)),
    "yolov4": partial(objects, partial(yolo, detectors.yolov4, "yolov4", 3)),
    "yolov4_csp": partial(objects, partial(yolo, detectors.yolov4_csp, "yolov4_csp", 3)),
    "yolo9000": partial(objects, tree, (32, 32), len(test_yolo9000.TREE)),
    "retinanet": partial(
        objects,
        partial(one_stage, detectors.retinanet, "retinanet", scales_per_octave=1),
    ),
    "fcos": partial(objects, partial(one_stage, detectors.fcos, "fcos")),
    "ssd": partial(
        objects,
        partial(
            one_stage,
            detectors.ssd,
            "ssdlite",
            scales=(0.2, 0.4, 0.6, 0.8),
            aspect_ratios=((2,), (2,), (2,)),
        ),
    ),
    "rpn": partial(objects, partial(rcnn, detectors.rpn, box_head=None)),
    "fast_rcnn": partial(objects, partial(rcnn, detectors.fast_rcnn, anchor_sizes=None)),
    "mask_rcnn": partial(objects, partial(rcnn, **test_faster_rcnn.FORMS["masks and keypoints"])),
}


QUICK = ["classification", "restoration"]
SLOW = ["fcos", "landmarks", "segmentation", "yolov3"]


@pytest.mark.parametrize("name", long_but(TASKS, QUICK, SLOW))
def test_losses_gradients_and_state_are_float32_and_losses_finite(name):
    task, batch = TASKS[name]()
    phase = Phase(optax.sgd(0.1, momentum=0.9))
    state, wide = abstract_state(task, phase), np.dtype("f4")
    update = device_update(task, Stage(phase, 0), ema_decay=0.9)
    after, record = jax.make_jaxpr(update, axis_env=[(AXIS, 1)], return_shape=True)(
        state, batch, jax.ShapeDtypeStruct((), jnp.uint32)
    )[1]
    assert {path: x.dtype for path, x in jax.tree.leaves_with_path(after)} == {
        path: x.dtype for path, x in jax.tree.leaves_with_path(state)
    }
    floats = [x.dtype for x in jax.tree.leaves(after.variables)]
    assert {*floats, *(x.dtype for x in record.values())} == {wide}

    def losses(variables, batch):
        """Of a batch with one axis more, that of the devices."""
        keys = Keys(jax.random.split(jax.random.key(0), 2), jax.random.key(0))
        prepared = jax.vmap(task.prepare)(batch)
        how = {"keys": keys, "step": 0, "train": True}
        outputs, _ = task.forward(variables, prepared, **how)
        dtypes.update(x.dtype for x in jax.tree.leaves(outputs))
        return jax.vmap(lambda o, e: task.loss(o, e, key=keys.device, step=0))(outputs, prepared)

    dtypes = set()
    run = jax.vmap(losses, (None, 0), axis_name=AXIS)
    given = random_values(state.variables), jax.tree.map(lambda x: x[None], batch)
    found = jax.jit(run, compiler_options={"xla_backend_optimization_level": 0})(*given)
    assert np.dtype(jnp.bfloat16) in dtypes
    for term, (total, weight) in found.items():
        assert total.dtype == wide, term
        assert jnp.result_type(weight) == wide, term
        assert np.isfinite(total).all(), term
