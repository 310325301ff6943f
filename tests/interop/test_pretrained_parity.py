"""torchvision's published weights by name: the table, the networks, and how images are prepared."""

import hashlib
import io
import json
from functools import partial

import jax
import numpy as np
import pytest
from PIL import Image

import jaxvision
from jaxvision.interop import find_published, pretrained, published_weights, to_state_dict
from jaxvision.tasks.inference import fit
from tests.interop import torchvision_weights
from tests.interop.weights_server import serving
from tests.marks import long_but
from tests.models import test_one_stage as one_stage
from tests.models.parity import outputs_of, settle, state_of
from tests.ops.parity import import_torchvision

# Of a family each, as small as they are.
CLASSIFIERS = (
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "googlenet",
    "inception_v3",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_y_400mf",
    "resnet18",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "swin_t",
    "swin_v2_t",
    "vgg11_bn",
    "vit_b_32",
    "maxvit_t",
)
DETECTORS = (
    "retinanet_resnet50_fpn_v2",
    "fcos_resnet50_fpn",
    "ssdlite320_mobilenet_v3_large",
)
EVERY = [row.full_name for row in published_weights()]
SEGMENTERS = tuple(row.full_name for row in published_weights() if row.task == "segmentation")
QUICK = (
    *(f"{name}:IMAGENET1K_V1" for name in CLASSIFIERS),
    *(row.full_name for row in published_weights() if row.model in DETECTORS),
    *SEGMENTERS,
)


@pytest.mark.parity
def test_the_table_is_that_of_torchvision():
    import_torchvision("models")
    assert torchvision_weights.table() == pretrained._table()


def size_of(row):
    """Of the images: smaller than the published ones, where the network takes them."""
    if row.model.startswith(("vit", "maxvit")):
        return row.inputs.shape[:2]
    return (96, 107) if row.model == "inception_v3" else (64, 75)


def build(torch, models, row):
    """torchvision's network as the one whose weights were published, with random weights."""
    if row.task == "segmentation":
        options = {} if row.model.startswith("lraspp") else {"aux_loss": True}
        network = models.get_model(row.model, weights=None, weights_backbone=None, **options)
    elif row.model in ("googlenet", "inception_v3"):
        options = {"init_weights": False, "transform_input": True}
        network = models.get_model(row.model, weights=None, **options)
    elif row.task == "detection":
        network = models.get_model(row.model, weights=None, weights_backbone=None)
    else:
        size = row.preprocessing["crop_size"]
        options = {"image_size": size} if row.model.startswith("vit") else {}
        network = models.get_model(row.model, weights=None, **options)
    return network.eval()


def publish(monkeypatch, server, torch, row, state):
    """Serves a state dict in place of the weights of a row, under a name with its own hash."""
    file = io.BytesIO()
    torch.save(state, file)
    content = file.getvalue()
    table = pretrained._table()
    name = f"{row.file.rpartition('-')[0]}-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    own = {"file": name, "mebibytes": round(len(content) / 2**20, 3)}
    rows = [
        {**x, **own} if (x["model"], x["name"]) == (row.model, row.name) else x
        for x in table["weights"]
    ]
    monkeypatch.setattr(pretrained, "_table", lambda: {**table, "weights": rows})
    published_weights.cache_clear()
    server.files[f"/{name}"] = content


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXVISION_CACHE", str(tmp_path))
    with serving() as found:
        monkeypatch.setenv("JAXVISION_MIRROR", found.address)
        yield found
    published_weights.cache_clear()


@pytest.mark.parity
@pytest.mark.parametrize("name", long_but(EVERY, QUICK))
def test_random_weights_come_through_with_equal_outputs(name, server, monkeypatch):
    torch, models = import_torchvision("models")
    row = find_published(*name.split(":"))
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    maps_alone = row.model in one_stage.SMALL
    if maps_alone:
        sides, frozen, _, _ = one_stage.SMALL[row.model]
        _, theirs = one_stage.theirs(row.model, frozen)
        images = rng.normal(size=(1, *sides, 3)).astype(np.float32)
    else:
        theirs = build(torch, models, row)
        images = rng.normal(size=(2, *size_of(row), 3)).astype(np.float32)
        images += np.float32([-0.5, 0.5])[:, None, None, None]
        if row.task != "detection":
            settle(torch, theirs, images)
    publish(monkeypatch, server, torch, row, theirs.state_dict())
    found = jaxvision.load_pretrained(row.model, row.name)
    assert found.class_names == row.class_names
    state = state_of(theirs)
    back = to_state_dict(found.variables, model=found.model)
    left_out = pretrained._LEFT_OUT.get(row.model, ())
    for key, x in state.items():
        if not key.endswith("num_batches_tracked") and not key.startswith(left_out):
            np.testing.assert_allclose(back[key], x, rtol=0, atol=1e-6, err_msg=key)
    if row.task == "detection" and not maps_alone:
        return  # of two stages: tests/tasks/test_torchvision_rcnns.py goes on from here
    run = jax.jit(
        partial(found.model.apply, train=False),
        compiler_options={"xla_backend_optimization_level": 0},
    )
    maps = jax.device_get(run(found.variables, images))
    if maps_alone:
        expected = one_stage.outputs_of(torch, theirs, images)
        ours = {key: one_stage.joined(maps, key) for key in expected}
    elif row.task == "segmentation":
        given = outputs_of(torch, theirs, images)
        names = {"out": "logits", "aux": "aux"}
        expected = {key: x.transpose(0, 2, 3, 1) for key, x in given.items()}
        ours = {key: maps[names[key]] for key in given}
    else:
        expected, ours = {"": outputs_of(torch, theirs, images)}, {"": maps["logits"]}
    for key, value in expected.items():
        assert value.std() > 1e-3 * np.abs(value).max()
        assert np.abs(ours[key] - value).max() <= 1e-3 * np.abs(value).max(), key


PRESETS = {
    json.dumps(dict(row.preprocessing), sort_keys=True): row
    for row in reversed(published_weights())
    if row.preprocessing
}
SIZES = ((768, 576), (640, 480), (427, 640), (300, 301), (1025, 769))


@pytest.mark.parity
@pytest.mark.parametrize("row", PRESETS.values(), ids=lambda row: row.full_name)
def test_images_are_prepared_as_by_torchvisions_presets(row, real_data):
    """Images of five sizes, one of each photograph."""
    _, models = import_torchvision("models")
    preset = models.get_model_weights(row.model)[row.name].transforms()
    mean, std = (np.float32(row.preprocessing[x]) for x in ("mean", "std"))
    names = ("dog", "eagle", "giraffe", "horses", "person")
    for name, size in zip(names, SIZES, strict=True):
        photograph = Image.open(real_data / "darknet" / "images" / f"{name}.jpg").convert("RGB")
        image = photograph.resize(size)
        expected = preset(image).numpy().transpose(1, 2, 0) * std + mean
        found = fit(np.asarray(image), row.inputs).image / np.float32(255)
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 1 / 255 + 1e-6
