"""The losses of the heads of Darknet descriptions."""

import jax
import numpy as np
import pytest

from jaxvision.core import InputError
from jaxvision.interop import DarknetNetwork, parse_cfg
from jaxvision.losses import yolov4_loss
from jaxvision.tasks.detectors import darknet, darknet_loss

NET = "[net]\nheight=32\nwidth=32\nchannels=3\n"
CONV = "[convolutional]\nfilters={}\nsize=3\nstride={}\npad=1\nactivation=linear\n"
YOLO = (
    "[yolo]\nmask={}\nanchors=4,6,9,9,16,12\nnum=3\nclasses=3\nscale_x_y={}\niou_thresh=0.2\n"
    "iou_loss=ciou\nignore_thresh=.6\niou_normalizer=0.05\ncls_normalizer=0.5\n"
    "obj_normalizer={}\nmax_delta=4\nlabel_smooth_eps=0.1\n"
)
TEXT = (
    NET
    + CONV.format(8, 8)
    + YOLO.format("2", 1.05, 0.4)
    + "[route]\nlayers=-2\n[upsample]\nstride=2\n"
    + CONV.format(16, 1)
    + YOLO.format("0,1", 1.2, 4)
)
BOXES = np.float32([[3, 4, 14, 20], [9, 9, 30, 21], [0, 0, 0, 0]])
TRUTH = BOXES, np.int32([1, 0, 0]), np.bool_([True, True, False])


def maps():
    rng = np.random.default_rng(0)
    shapes = {"yolo1": (4, 4, 1, 8), "yolo5": (8, 8, 2, 8)}
    return {name: rng.normal(size=shape).astype("f4") for name, shape in shapes.items()}


@pytest.mark.parametrize("squared", [False, True])
def test_the_loss_of_yolov4_has_the_settings_of_the_description(squared):
    text = TEXT.replace("max_delta", "new_coords=1\nmax_delta") if squared else TEXT
    text = text.replace("linear", "logistic") if squared else text
    heads = parse_cfg(text).heads()
    logits = maps()
    options = {"iou_threshold": 0.3} if squared else {"box_gradient": "darknet"}
    found = darknet_loss(logits, *TRUTH, heads, image_size=(32, 32), **options)
    settings = {
        "strides": (8, 4),
        "masks": ((2,), (0, 1)),
        "scale_x_y": (1.05, 1.2),
        "squared": squared,
        "iou_threshold": 0.2,
        "ignore_threshold": 0.6,
        "box_weight": 0.05,
        "objectness_weight": (0.4, 4.0),
        "class_weight": 0.5,
        "label_smoothing": 0.1,
        "max_delta": 4.0,
    }
    anchors = np.float32([[4, 6], [9, 9], [16, 12]])
    expected = yolov4_loss(list(logits.values()), *TRUTH, anchors, **{**settings, **options})
    assert found == expected


def test_a_step_of_training_reaches_all_layers():
    network = DarknetNetwork(parse_cfg(TEXT))
    images = np.random.default_rng(0).uniform(size=(1, 32, 32, 3)).astype("f4")
    variables = network.init(jax.random.key(0), images, train=False)
    heads = network.description.heads()

    def total(params):
        found = network.apply({**variables, "params": params}, images, train=False)
        found = {name: x[0] for name, x in found.items()}
        terms = darknet_loss(found, *TRUTH, heads, image_size=(32, 32))
        return sum(value for value, _ in terms.values())

    slopes = jax.jit(jax.grad(total))(variables["params"])
    assert all(np.isfinite(x).all() and np.abs(x).max() > 0 for x in jax.tree.leaves(slopes))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("iou_loss=ciou", "iou_loss=giou", "no loss for a .yolo. with iou_loss=giou"),
        ("iou_loss=ciou", "iou_loss=mse", "scale_x_y or new_coords and iou_loss=mse"),
        ("iou_thresh=0.2", "iou_thresh=0.3", "have different iou_thresh, so it cannot be trained"),
        ("iou_loss=ciou", "iou_loss=mse\nscale_x_y=1", "have different iou_loss"),
        ("anchors=4,6", "anchors=4,7", "have different anchors"),
    ],
)
def test_what_has_no_loss_is_refused(old, new, message):
    """It predicts all the same."""
    text = TEXT.replace(old, new, 1)
    if "scale_x_y" in new:
        text = text.replace("scale_x_y=1.05\n", "", 1)
    network = DarknetNetwork(parse_cfg(text))
    with pytest.raises(InputError, match=message):
        darknet(network)
    assert darknet(network, loss=None).loss is None
