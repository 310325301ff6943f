"""R-CNNs end to end and stage by stage: torchvision's weights give torchvision's detections."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxvision
from jaxvision import tasks
from jaxvision.interop import to_state_dict
from jaxvision.models import create_model, input_figures
from jaxvision.models.detection.faster_rcnn import propose_all
from jaxvision.ops import decode_mask, paste_masks
from tests.models.parity import check_round_trip, state_of
from tests.models.test_one_stage import freeze
from tests.models.torchvision_ops import import_detection
from tests.tasks.test_torchvision_detections import (
    NAMES,
    as_tensors,
    batch_of,
    compare_narrow,
    find,
    in_double_precision,
    our_variables,
    photograph,
)

MOBILENET = {"rpn_score_thresh": 0.05}
FEW = {"rpn_pre_nms_top_n_test": 150, "rpn_post_nms_top_n_test": 150}
# Of each builder: the epsilon of frozen norms, the options of the detector, sides of the images.
BUILDERS = {
    "fasterrcnn_resnet50_fpn": (0.0, {}, (800, 1333)),
    "fasterrcnn_resnet50_fpn_v2": (None, {}, (800, 1333)),
    "fasterrcnn_mobilenet_v3_large_fpn": (1e-5, MOBILENET, (800, 1333)),
    "fasterrcnn_mobilenet_v3_large_320_fpn": (1e-5, {**MOBILENET, **FEW}, (320, 640)),
    "maskrcnn_resnet50_fpn": (0.0, {}, (800, 1333)),
    "maskrcnn_resnet50_fpn_v2": (None, {}, (800, 1333)),
    "keypointrcnn_resnet50_fpn": (0.0, {}, (800, 1333)),
}
FAMILIES = {"fasterrcnn": "faster_rcnn", "maskrcnn": "mask_rcnn", "keypointrcnn": "keypoint_rcnn"}


def build(name, sides):
    """(torch, torchvision's detector with random weights, in evaluation)."""
    torch, detection = import_detection(FAMILIES[name.partition("_")[0]])
    torch.manual_seed(0)
    limits = dict(zip(("min_size", "max_size"), sides, strict=True))
    network = getattr(detection, name)(weights=None, weights_backbone=None, **limits)
    return torch, network.eval()


def theirs(name, images, sides):
    """(torch, torchvision's detector that finds objects).

    Convolutions have He's initialisation, norms the statistics of the photographs, and the last
    layers are scaled so that there are many objects of different scores.
    """
    torch, network = build(name, sides)
    epsilon = BUILDERS[name][0]
    with torch.no_grad():
        for values in network.parameters():
            if values.ndim == 4:
                values.normal_(std=(2 / values[0].numel()) ** 0.5)
        for norm in network.modules():
            if isinstance(norm, torch.nn.BatchNorm2d):
                norm.momentum = None  # the statistics are those of one batch
                norm.train()
        batch, _ = network.transform(as_tensors(torch, images, torch.float32))
        network.backbone(batch.tensors)
        network.backbone.eval()
        if epsilon is not None:
            freeze(torch, network.backbone.body, epsilon)
        maps = network.backbone(batch.tensors)
        head, heads = network.rpn.head, network.roi_heads
        logits, deltas = head(list(maps.values()))
        rescale(torch, head.cls_logits, logits, deviation=2, reach=7)
        rescale(torch, head.bbox_pred, deltas, deviation=0.3, reach=2)
        proposals, _ = network.rpn(batch, maps)
        for part in ("box", "mask", "keypoint"):
            if getattr(heads, f"{part}_head", None) is None:
                continue
            if part != "box":
                proposals = [x[:100] for x in proposals]
            pooled = getattr(heads, f"{part}_roi_pool")(maps, proposals, batch.image_sizes)
            head, last = getattr(heads, f"{part}_head"), getattr(heads, f"{part}_predictor")
            head(pooled)
            head.eval()
            found = last(head(pooled))
            if part == "box":
                rescale(torch, last.cls_score, [found[0]], deviation=2, reach=7)
                rescale(torch, last.bbox_pred, [found[1]], deviation=1, reach=4)
            else:
                layer = last.mask_fcn_logits if part == "mask" else last.kps_score_lowres
                rescale(torch, layer, [found], deviation=2, reach=7)
    return torch, network.eval()


def rescale(torch, layer, values, *, deviation, reach):
    """Scales a layer so that its outputs deviate so much, and reach at most so far."""
    values = torch.cat([x.flatten() for x in values])
    around = values - values.mean()
    factor = min(deviation / around.std(), reach / around.abs().max())
    layer.weight *= factor
    layer.bias *= factor
    layer.bias -= factor * values.mean()


def our_task(name, dtype, sides):
    model = create_model(name, dtype=dtype, param_dtype=dtype)
    mean, std = input_figures(name)
    shorter, longer = sides
    inputs = jaxvision.Inputs(
        resize="shorter_side",
        shorter_side=shorter,
        longer_side=longer,
        shapes="exact",
        mean=mean,
        std=std,
        resampling="float32",
    )
    detector = tasks.detectors.faster_rcnn(model, loss=None, **BUILDERS[name][1])
    return model, tasks.detection(detector, inputs, class_names=detector.num_classes)


def old_spelling(state):
    """The keys of torchvision's files of 2019 to 2021."""

    def old(key):
        parts = key.split(".")
        if "inner_blocks" in parts or "layer_blocks" in parts:
            del parts[-2]
        elif parts[:3] == ["rpn", "head", "conv"]:
            del parts[3:5]
        elif parts[:2] == ["roi_heads", "mask_head"]:
            parts[2:4] = [f"mask_fcn{int(parts[2]) + 1}"]
        return ".".join(parts)

    return {old(key): x for key, x in state.items() if "num_batches" not in key}


def check_detections(name, photographs, sides):
    torch, network = theirs(name, photographs, sides)
    image, state = photographs[0], state_of(network)
    model, task = our_task(name, jnp.float32, sides)
    variables = our_variables(model, state, jnp.float32)
    check_round_trip(state, to_state_dict(variables, model=model))
    if "v2" not in name:
        older = our_variables(model, old_spelling(state), jnp.float32)
        jax.tree.map(np.testing.assert_array_equal, older, variables)
    with torch.no_grad():
        (expected,) = network(as_tensors(torch, [image], torch.float32))
    expected = {key: x.numpy() for key, x in expected.items()}
    most = len(expected["boxes"])
    assert most >= 50
    (prediction,) = jaxvision.predict(task, variables, [image])
    compare_narrow(prediction.result, expected, 1, most)
    if "masks" in expected:
        check_narrow_masks(prediction.result, expected)

    tensors = as_tensors(torch, [image], torch.float64)
    with in_double_precision(torch, network), torch.no_grad(), pytest.MonkeyPatch.context() as m:
        # The keypoints and their scores are of 32 bits whatever the network is.
        m.setattr(torch, "float32", torch.float64)
        m.setattr(torch.Tensor, "float", torch.Tensor.double)
        expected, stages = recorded(network, tensors)
    with jax.enable_x64(True):
        model, task = our_task(name, jnp.float64, sides)
        variables = our_variables(model, state_of(network), jnp.float64)
        batch = batch_of(task, image)
        outputs, found = find(task, variables, batch)
        check_stages(model, variables, jax.vmap(task.prepare)(batch), outputs, stages)
    count = found.valid.sum()
    assert count == len(expected["boxes"])
    order = np.lexsort((found.labels, -found.scores))[:count]
    theirs_order = np.lexsort((expected["labels"], -expected["scores"]))
    found = jax.tree.map(lambda x: x[order], found)
    expected = {key: x.numpy()[theirs_order] for key, x in expected.items()}
    np.testing.assert_array_equal(found.labels + 1, expected["labels"])
    np.testing.assert_allclose(found.scores, expected["scores"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.boxes, expected["boxes"], rtol=0, atol=1e-6)
    if "masks" in expected:
        check_masks(torch, found, expected, batch.extent[0])
    if "keypoints" in expected:
        np.testing.assert_allclose(
            found.keypoints[..., 2], expected["keypoints_scores"], rtol=0, atol=1e-9
        )
        points = expected["keypoints"][..., :2]
        np.testing.assert_allclose(found.keypoints[..., :2], points, rtol=0, atol=1e-6)


def check_masks(torch, found, expected, size):
    """The probabilities are the same, and so are masks in the image, but for values near 1/2."""
    np.testing.assert_allclose(found.masks, expected["masks"][:, 0], rtol=0, atol=1e-9)
    _, heads = import_detection("roi_heads")
    height, width = size.tolist()
    theirs = (torch.from_numpy(expected[name].copy()) for name in ("masks", "boxes"))
    wide = heads.paste_masks_in_image(*theirs, (height, width)).numpy()[:, 0]
    pasted = paste_masks(found.masks, found.boxes, (height, width))
    assert pasted.any(axis=(1, 2)).mean() > 0.5
    assert not ((pasted != (wide > 0.5)) & (np.abs(wide - 0.5) > 1e-6)).any()


def check_narrow_masks(found, expected):
    """In the original image, nearly all masks of the same boxes are the same."""
    near = np.abs(found.boxes[:, None] - expected["boxes"][None]).max(axis=-1) <= 0.5
    near &= found.labels[:, None] + 1 == expected["labels"][None]
    equal = []
    for ours, theirs in np.argwhere(near):
        one, two = decode_mask(found.masks[int(ours)]), expected["masks"][theirs, 0] > 0.5
        equal.append((one & two).sum() / max((one | two).sum(), 1))
    assert np.mean(np.array(equal) > 0.95) >= 0.97


def recorded(network, images):
    """(torchvision's detections of an image, what it computes on the way, as numpy arrays)."""
    found = {}
    modules = dict(network.named_modules())
    names = ("rpn.head", "rpn.anchor_generator", "rpn")
    names += tuple(f"roi_heads.{part}_predictor" for part in ("box", "mask", "keypoint"))
    handles = [
        modules[name].register_forward_hook(
            lambda module, given, result, name=name: found.update({name: result})
        )
        for name in names
        if name in modules
    ]
    (detections,) = network(images)
    for handle in handles:
        handle.remove()
    logits, deltas = found["rpn.head"]
    scores, boxes = found["roi_heads.box_predictor"]
    stages = {
        "anchors": found["rpn.anchor_generator"][0],
        "objectness": [x[0].permute(1, 2, 0) for x in logits],
        "rpn_deltas": [x[0].permute(1, 2, 0) for x in deltas],
        "proposals": found["rpn"][0][0],
        "class_logits": scores,
        "box_regression": boxes,
        "boxes": detections["boxes"],
    }
    for part in ("mask", "keypoint"):
        if f"roi_heads.{part}_predictor" in found:
            stages[f"{part}_logits"] = found[f"roi_heads.{part}_predictor"].permute(0, 2, 3, 1)
    return detections, {
        key: [y.numpy() for y in x] if isinstance(x, list) else x.numpy()
        for key, x in stages.items()
    }


def check_stages(model, variables, batch, outputs, expected):
    """Anchors, RPN and proposals are the same; so are the heads on the same proposals and boxes."""

    def compare(found, wanted, atol):
        np.testing.assert_allclose(np.reshape(found, wanted.shape), wanted, rtol=0, atol=atol)

    feature_sizes = [x.shape[:2] for x in expected["objectness"]]
    anchors = model.anchors(batch.image.shape[1:3], feature_sizes)
    compare(np.concatenate(anchors), expected["anchors"], 0)
    for kind in ("objectness", "rpn_deltas"):
        for number, wanted in enumerate(expected[kind]):
            compare(outputs[f"{kind}{number}"], wanted, 1e-9)
    kept = outputs["proposals"][outputs["proposal_mask"]]
    rows = [np.lexsort(x.T.round(3)) for x in (kept, expected["proposals"])]
    compare(kept[rows[0]], expected["proposals"][rows[1]], 1e-6)

    given = np.zeros_like(outputs["proposals"])
    given[: len(kept)] = expected["proposals"]

    @jax.jit
    def second(variables, images):
        def propose(rpn):
            return {**propose_all(rpn), "proposals": jnp.asarray(given)[None]}

        def detect(*_):
            return {"boxes": jnp.asarray(expected["boxes"])[None]}

        return model.apply(variables, images, train=False, propose=propose, detect=detect)

    on_theirs = jax.device_get(second(variables, batch.image))
    for name in ("class_logits", "box_regression"):
        compare(on_theirs[name][0, : len(kept)], expected[name], 1e-9)
    if "mask_logits" in expected:
        compare(on_theirs["mask_logits"][0], expected["mask_logits"][..., 1:], 1e-9)
    if "keypoint_logits" in expected:
        compare(on_theirs["keypoint_logits"][0], expected["keypoint_logits"], 1e-9)


QUICK = ("maskrcnn_resnet50_fpn", "fasterrcnn_mobilenet_v3_large_fpn")


@pytest.mark.parity
@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.long) for name in BUILDERS],
)
def test_detections_equal_torchvisions(name, real_data):
    check_detections(name, [photograph(real_data, one) for one in NAMES], (320, 533))


@pytest.mark.parity
@pytest.mark.long
@pytest.mark.parametrize("name", BUILDERS)
def test_detections_at_full_size_equal_torchvisions(name, real_data):
    photographs = [photograph(real_data, one) for one in NAMES]
    check_detections(name, photographs, BUILDERS[name][2])
