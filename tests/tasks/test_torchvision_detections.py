"""RetinaNet, FCOS and SSD end to end: torchvision's weights give torchvision's detections."""

import contextlib
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxvision
from jaxvision import tasks
from jaxvision.core import ImageBatch
from jaxvision.data import read_image
from jaxvision.data.transforms.placing import extent_in, fit_image
from jaxvision.interop import from_state_dict
from jaxvision.models import create_model, input_figures, input_size
from jaxvision.tasks.detectors.fcos import FCOS_DECODE
from jaxvision.tasks.detectors.ssd import SSDLITE_DECODE
from tests.models.parity import state_of
from tests.models.test_one_stage import freeze
from tests.models.torchvision_ops import import_detection
from tests.models.variables import shapes_of
from tests.tasks.one_stage import with_area

# Most of FCOS's 100 detections are in the padding in torchvision, as the weights are random.
MANY = dataclasses.replace(FCOS_DECODE, max_detections=300)

# Of each builder: the epsilon of frozen norms, the detector, its options, and the label of class 0.
BUILDERS = {
    "retinanet_resnet50_fpn": (0.0, tasks.detectors.retinanet, {}, 0),
    "retinanet_resnet50_fpn_v2": (None, tasks.detectors.retinanet, {}, 0),
    "fcos_resnet50_fpn": (1e-5, tasks.detectors.fcos, {"decode": MANY}, 0),
    "ssd300_vgg16": (None, tasks.detectors.ssd, {}, 1),
    "ssdlite320_mobilenet_v3_large": (None, tasks.detectors.ssd, {"decode": SSDLITE_DECODE}, 1),
}


def photograph(real_data, name):
    return read_image(real_data / "darknet" / "images" / f"{name}.jpg")


def as_tensors(torch, images, dtype):
    return [torch.from_numpy(x.transpose(2, 0, 1).copy()).to(dtype) / 255 for x in images]


def theirs(name, images, sides):
    """(torch, torchvision's detector that finds objects).

    Convolutions have He's initialisation, norms the statistics of the photographs, and the last
    layers are scaled so that there are many objects of different scores.
    """
    module = name.partition("_")[0].rstrip("0123456789")
    torch, detection = import_detection(module)
    torch.manual_seed(0)
    limits = ("min_size", "max_size")
    sides = {} if "ssd" in name else dict(zip(limits, sides, strict=True))
    most = {"detections_per_img": 300} if "fcos" in name else {}
    build = getattr(detection, name)
    network = build(weights=None, weights_backbone=None, **sides, **most)
    network.eval()
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    given = as_tensors(torch, images, torch.float32)
    with torch.no_grad():
        for values in network.parameters():
            if values.ndim == 4:
                values.normal_(std=(2 / values[0].numel()) ** 0.5)
        for norm in norms:
            norm.momentum = None  # the statistics are those of one batch
            norm.train()
        maps = network.backbone(network.transform(given)[0].tensors)
        network.head(list(maps.values()))
        network.eval()
        epsilon = BUILDERS[name][0]
        if epsilon is not None:
            freeze(torch, network.backbone.body, epsilon)
        maps = network.backbone(network.transform(given[:1])[0].tensors)
        found = network.head(list(maps.values()))
        classes, boxes = network.head.classification_head, network.head.regression_head
        # A softmax has the background beside the classes, a sigmoid has not.
        middle = None if "ssd" in name else -4.0
        rescale(torch, classes, found["cls_logits"], deviation=2, reach=7, middle=middle)
        rescale(torch, boxes, found["bbox_regression"], deviation=0.5, reach=3)
    return torch, network


def rescale(torch, head, values, *, deviation, reach, middle=None):
    """Scales a head's last layers so that its outputs deviate so much, and reach at most so far."""
    if hasattr(head, "cls_logits"):
        layers = [head.cls_logits]
    elif hasattr(head, "bbox_reg"):
        layers = [head.bbox_reg]
    else:
        parts = head.module_list
        layers = [x if isinstance(x, torch.nn.Conv2d) else x[-1] for x in parts]
    around = values - values.mean()
    factor = min(deviation / around.std(), reach / around.abs().max())
    for layer in layers:
        layer.weight *= factor
        layer.bias *= factor
        if middle is not None:
            layer.bias += middle - factor * values.mean()


def our_task(name, dtype, sides):
    _, detector, options, _ = BUILDERS[name]
    model = create_model(name, dtype=dtype, param_dtype=dtype)
    mean, std = input_figures(name)
    how = {"mean": mean, "std": std, "resampling": "float32"}
    if "ssd" in name:
        inputs = jaxvision.Inputs(input_size(name)[:2], resize="stretch", **how)
    else:
        shorter, longer = sides
        how |= {"shorter_side": shorter, "longer_side": longer, "shapes": "exact"}
        inputs = jaxvision.Inputs(resize="shorter_side", **how)
    detector = detector(model, loss=None, **options)
    return tasks.detection(detector, inputs, class_names=detector.num_classes)


def our_variables(model, state, dtype):
    images = jax.ShapeDtypeStruct((1, 320, 320, 3), jnp.float32)
    like = jax.tree.map(lambda x: x.update(dtype=dtype), shapes_of(model, images)[1])
    return from_state_dict(state, like)


def batch_of(task, image):
    placed, placement = fit_image(image.astype(np.float64), task.inputs)
    size = np.int32(image.shape[:2])
    return ImageBatch(
        image=placed[None],
        mask=np.ones(1, bool),
        extent=extent_in(task.inputs, placed, placement, size)[None],
        placement=np.float64(placement)[None],
        size=size[None],
    )


def find(task, variables, batch):
    """(outputs, detections) of a batch of one image."""

    def run(variables, batch):
        batch = jax.vmap(task.prepare)(batch)
        outputs, _ = task.forward(variables, batch, keys=None, step=None, train=False)
        return outputs, jax.vmap(task.decode)(outputs, batch)

    return jax.tree.map(lambda x: x[0], jax.device_get(jax.jit(run)(variables, batch)))


def check_detections(name, photographs, sides):
    torch, network = theirs(name, photographs, sides)
    image, first = photographs[0], BUILDERS[name][3]
    task = our_task(name, jnp.float32, sides)
    variables = our_variables(task_model(name, jnp.float32), state_of(network), jnp.float32)
    with torch.no_grad():
        (expected,) = network(as_tensors(torch, [image], torch.float32))
    most = len(expected["boxes"])
    expected = with_area(expected)
    assert len(expected["boxes"]) >= 100
    (prediction,) = jaxvision.predict(task, variables, [image])
    compare_narrow(prediction.result, expected, first, most)

    with in_double_precision(torch, network), torch.no_grad():
        (expected,) = network(as_tensors(torch, [image], torch.float64))
    with jax.enable_x64(True):
        task = our_task(name, jnp.float64, sides)
        model = task_model(name, jnp.float64)
        variables = our_variables(model, state_of(network), jnp.float64)
        _, found = find(task, variables, batch_of(task, image))
    boxes, labels, scores = (x[found.valid] for x in (found.boxes, found.labels, found.scores))
    most = len(expected["boxes"])
    expected = with_area(expected)
    assert len(expected["boxes"]) <= len(boxes) <= most
    order = np.lexsort((labels, -scores))[: len(expected["boxes"])]
    theirs_order = np.lexsort((expected["labels"], -expected["scores"]))
    np.testing.assert_array_equal(labels[order] + first, expected["labels"][theirs_order])
    np.testing.assert_allclose(scores[order], expected["scores"][theirs_order], rtol=0, atol=1e-9)
    np.testing.assert_allclose(boxes[order], expected["boxes"][theirs_order], rtol=0, atol=1e-6)


@contextlib.contextmanager
def in_double_precision(torch, network):
    """What it computes in single precision whatever its parameters: sizes of default boxes, and
    the ratios by which boxes are scaled to the original image, which are left out here."""
    network.double()
    network.transform.postprocess = lambda result, *sizes: result
    generator = getattr(network, "anchor_generator", None)
    if hasattr(generator, "_wh_pairs"):
        count = len(generator.aspect_ratios)
        generator._wh_pairs = generator._generate_wh_pairs(count, dtype=torch.float64)
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def task_model(name, dtype):
    return create_model(name, dtype=dtype, param_dtype=dtype)


def compare_narrow(found, expected, first, most):
    """Nearly all detections have a partner of the same class.

    Args:
      found: ours.
      expected: torchvision's `with_area`.
      first: the label of class 0 there.
      most: how many torchvision has in all.
    """
    count = len(expected["boxes"])
    assert 0.97 * count <= len(found.boxes) <= most + 0.03 * count
    best = slice(count)
    boxes, scores, labels = found.boxes[best], found.scores[best], found.labels[best]
    near = np.abs(boxes[:, None] - expected["boxes"][None]).max(axis=-1) <= 0.5
    near &= np.abs(scores[:, None] - expected["scores"][None]) <= 5e-3
    near &= labels[:, None] + first == expected["labels"][None]
    for axis in (0, 1):
        assert near.any(axis=axis).mean() >= 0.97


NAMES = ("dog", "person", "horses")


@pytest.mark.parity
@pytest.mark.parametrize("name", BUILDERS)
def test_detections_equal_torchvisions(name, real_data):
    check_detections(name, [photograph(real_data, one) for one in NAMES], (320, 533))


@pytest.mark.parity
@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in BUILDERS if "ssd" not in name])
def test_detections_at_full_size_equal_torchvisions(name, real_data):
    check_detections(name, [photograph(real_data, one) for one in NAMES], (800, 1333))
