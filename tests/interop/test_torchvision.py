"""Weights in torch's layout: a round trip, what does not fit, real ones, torch itself."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.augment import normalize
from jaxvision.core import InputError
from jaxvision.interop import from_state_dict
from jaxvision.layers import ConvTranspose, batch_norm
from jaxvision.models import create_model
from tests.models.variables import random_values

# A ResNet small enough for tests, whose names are those of resnet20.
TINY = {"blocks": 1, "widths": (4, 6, 9), "num_classes": 3}


def shapes_of(model, shape):
    init = functools.partial(model.init, train=False)
    return jax.eval_shape(init, jax.random.key(0), jnp.zeros(shape))


def lenet_state_dict(params):
    """LeNet's parameters as torch keeps them, written out layer by layer."""
    return {
        "c1.weight": params["c1"]["kernel"].transpose(3, 2, 0, 1),
        "c1.bias": params["c1"]["bias"],
        "c3.weight": params["c3"]["kernel"].transpose(3, 2, 0, 1),
        "c3.bias": params["c3"]["bias"],
        "c5.weight": params["c5"]["kernel"].transpose(3, 2, 0, 1),
        "c5.bias": params["c5"]["bias"],
        "f6.weight": params["f6"]["kernel"].T,
        "f6.bias": params["f6"]["bias"],
        "output.weight": params["output"]["kernel"].T,
        "output.bias": params["output"]["bias"],
    }


@pytest.fixture
def lenet():
    return random_values(shapes_of(create_model("lenet5"), (1, 32, 32, 3)))


def test_lenet_comes_back_from_torchs_layout(lenet):
    converted = from_state_dict(lenet_state_dict(lenet["params"]), lenet)
    jax.tree.map(np.testing.assert_array_equal, converted, lenet)


def test_structure_and_dtypes_are_those_of_the_variables(lenet):
    state_dict = lenet_state_dict(lenet["params"])
    state_dict = {key: value.astype(np.float64) for key, value in state_dict.items()}
    half = shapes_of(create_model("lenet5", param_dtype=jnp.bfloat16), (1, 32, 32, 3))
    converted = from_state_dict(state_dict, half)
    assert jax.tree.structure(converted) == jax.tree.structure(half)
    assert {x.dtype for x in jax.tree.leaves(converted)} == {jnp.dtype(jnp.bfloat16)}


def test_batch_norm_takes_running_statistics_and_leaves_the_counter():
    variables = random_values(shapes_of(create_model("lenet5", norm=batch_norm), (1, 32, 32, 3)))
    state_dict = lenet_state_dict(variables["params"])
    for name in ("bn1", "bn3"):
        state_dict |= {
            f"{name}.weight": variables["params"][name]["scale"],
            f"{name}.bias": variables["params"][name]["bias"],
            f"{name}.running_mean": variables["batch_stats"][name]["mean"],
            f"{name}.running_var": variables["batch_stats"][name]["var"],
            f"{name}.num_batches_tracked": np.int64(7),
        }
    converted = from_state_dict(state_dict, variables)
    jax.tree.map(np.testing.assert_array_equal, converted, variables)


def test_a_transposed_kernel_has_its_axes_in_another_order():
    # Kernels of 2 x 3 from 4 channels to 5.
    like = {"params": {"up": {"transposed_kernel": np.zeros((2, 3, 4, 5), np.float32)}}}
    weight = np.arange(120).reshape(4, 5, 2, 3)
    kernel = from_state_dict({"up.weight": weight}, like)["params"]["up"]["transposed_kernel"]
    assert kernel[1, 2, 3, 0] == weight[3, 0, 1, 2]
    np.testing.assert_array_equal(np.moveaxis(kernel, (2, 3), (0, 1)), weight)


def test_a_key_map_translates_names(lenet):
    state_dict = lenet_state_dict(lenet["params"])
    renamed = {f"module.{key}".replace("output", "last"): x for key, x in state_dict.items()}
    converted = from_state_dict(
        renamed, lenet, key_map=lambda k: k.removeprefix("module.").replace("last", "output")
    )
    jax.tree.map(np.testing.assert_array_equal, converted, lenet)


def test_everything_that_does_not_fit_is_listed_in_one_message(lenet):
    state_dict = lenet_state_dict(lenet["params"])
    del state_dict["c1.weight"], state_dict["f6.bias"]
    state_dict["extra.weight"] = state_dict["more"] = np.zeros(3)
    state_dict["c3.weight"] = np.zeros((16, 6, 3, 3))
    state_dict["output.weight"] = np.zeros((84, 10))
    with pytest.raises(InputError) as error:
        from_state_dict(state_dict, lenet)
    message = str(error.value)
    _, missing, left_over, misshapen = message.split("\n")
    assert missing == "  missing: c1.weight, f6.bias"
    assert left_over == "  left over: extra.weight, more"
    assert misshapen.startswith("  of another shape: ")
    assert "c3.weight (16, 6, 3, 3) instead of (16, 6, 5, 5)" in misshapen
    assert "output.weight (84, 10) instead of (10, 84)" in misshapen


def test_a_forgotten_prefix_is_named(lenet):
    """However many arrays there are, the message has a few lines, in the spelling of the file."""
    long = {f"layer{number}": lenet["params"] for number in range(60)}
    state_dict = {
        f"module.layer{number}.{key}": value
        for number in range(60)
        for key, value in lenet_state_dict(lenet["params"]).items()
    }
    with pytest.raises(InputError) as error:
        from_state_dict(state_dict, {"params": long})
    lines = str(error.value).splitlines()
    assert len(lines) == 4
    assert max(map(len, lines)) < 700
    assert "layer0.c1.bias" in lines[1]
    assert "module.layer0.c1.bias" in lines[2]
    assert lines[3] == "the keys differ by a prefix: give prefix='module.'"
    found = from_state_dict(state_dict, {"params": long}, prefix="module.")
    jax.tree.map(np.testing.assert_array_equal, found["params"]["layer7"], lenet["params"])


@pytest.mark.parametrize("value", [np.zeros(84, "c8"), np.full(84, 1e300), np.full(84, "1.0")])
def test_numbers_keep_their_meaning(lenet, value):
    state_dict = lenet_state_dict(lenet["params"]) | {"f6.bias": value}
    with pytest.raises(InputError, match=r"of another kind of numbers: f6.bias \("):
        from_state_dict(state_dict, lenet)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("c5.bias"), r"network:\n  missing: c5.bias$"),
        (lambda s: s.update(c9=np.zeros(1)), r"network:\n  left over: c9$"),
        (
            lambda s: s.update({"f6.bias": np.zeros(83)}),
            r"network:\n  of another shape: f6.bias \(83,",
        ),
    ],
    ids=["missing", "left over", "misshapen"],
)
def test_only_what_is_wrong_is_listed(lenet, change, message):
    state_dict = lenet_state_dict(lenet["params"])
    change(state_dict)
    with pytest.raises(InputError, match=message):
        from_state_dict(state_dict, lenet)


def test_two_keys_with_one_name_are_an_error(lenet):
    state_dict = lenet_state_dict(lenet["params"])
    state_dict["module.c1.bias"] = state_dict["c1.bias"] + 1
    with pytest.raises(
        InputError, match=r"network:\n  given twice: c1.bias and module.c1.bias for c1_bias$"
    ):
        from_state_dict(state_dict, lenet, key_map=lambda key: key.removeprefix("module."))


@pytest.mark.slow
def test_trained_resnet20_classifies_915_of_1000_real_images(real_data):
    weights = np.load(real_data / "resnet20_cifar10" / "resnet20.npz")
    sample = np.load(real_data / "cifar10_sample" / "cifar10_sample.npz")
    model = create_model("resnet20")
    variables = from_state_dict(
        weights,
        shapes_of(model, (1, 32, 32, 3)),
        key_map=lambda key: key.removeprefix("module.").replace("linear", "fc"),
    )

    @jax.jit
    def classify(images):
        images = normalize(images, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
        return model.apply(variables, images, train=False)["logits"].argmax(axis=-1)

    guesses = np.concatenate([classify(images) for images in np.split(sample["test_x"], 4)])
    assert (guesses == sample["test_y"]).sum() == 915


def torch_lenet(torch, num_classes):
    nn = torch.nn

    class LeNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.c1, self.c3, self.c5 = (nn.Conv2d(*c, 5) for c in ((3, 6), (6, 16), (16, 120)))
            self.f6, self.output = nn.Linear(120, 84), nn.Linear(84, num_classes)

        def forward(self, x):
            x = nn.functional.avg_pool2d(torch.tanh(self.c1(x)), 2)
            x = nn.functional.avg_pool2d(torch.tanh(self.c3(x)), 2)
            x = torch.tanh(self.c5(x)).flatten(1)
            return self.output(torch.tanh(self.f6(x)))

    return LeNet()


def torch_resnet_cifar(torch, blocks, widths, num_classes):
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self, features_in, features, stride):
            super().__init__()
            self.stride, self.missing = stride, features - features_in
            self.conv1 = nn.Conv2d(features_in, features, 3, stride, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(features)
            self.conv2 = nn.Conv2d(features, features, 3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(features)

        def forward(self, x):
            y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
            x = x[:, :, :: self.stride, :: self.stride]
            before = self.missing // 2
            x = nn.functional.pad(x, (0, 0, 0, 0, before, self.missing - before))
            return torch.relu(y + x)

    class ResNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(widths[0])
            before = widths[0]
            for stage, width in enumerate(widths, start=1):
                layers = []
                for block in range(blocks):
                    layers.append(Block(before, width, 2 if stage > 1 and block == 0 else 1))
                    before = width
                self.add_module(f"layer{stage}", nn.Sequential(*layers))
            self.fc = nn.Linear(before, num_classes)

        def forward(self, x):
            x = torch.relu(self.bn1(self.conv1(x)))
            x = self.layer3(self.layer2(self.layer1(x)))
            return self.fc(x.mean(dim=(2, 3)))

    return ResNet()


PARITY = {
    "lenet5": ("lenet5", {"num_classes": 10}, torch_lenet),
    "resnet20": (
        "resnet20",
        {"num_classes": 10},
        functools.partial(torch_resnet_cifar, blocks=3, widths=(16, 32, 64)),
    ),
    "tiny, odd widths": ("resnet20", TINY, torch_resnet_cifar),
}


def as_numpy(state_dict):
    return {key: value.detach().numpy().copy() for key, value in state_dict.items()}


@pytest.mark.parity
@pytest.mark.parametrize(
    ("kernel_size", "options"),
    [((2, 2), {"stride": 2}), ((3, 4), {"stride": (2, 3), "padding": 1, "output_padding": (0, 1)})],
)
def test_a_transposed_convolution_equals_torchs(kernel_size, options):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs = torch.nn.ConvTranspose2d(4, 6, kernel_size, **options)
    ours = ConvTranspose(6, kernel_size, **options)
    x = np.random.default_rng(0).normal(size=(2, 5, 7, 4)).astype(np.float32)
    like = jax.eval_shape(ours.init, jax.random.key(0), x)
    variables = from_state_dict(as_numpy(theirs.state_dict()), like)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    y = ours.apply(variables, x).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parity
@pytest.mark.parametrize(("name", "fields", "build"), PARITY.values(), ids=PARITY.keys())
def test_logits_equal_torchs_in_evaluation_and_training(name, fields, build):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs, ours = build(torch, **fields), create_model(name, **fields)
    with torch.no_grad():
        for module in theirs.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
                module.running_mean.uniform_(-0.5, 0.5)
                module.running_var.uniform_(0.5, 2)
    images = np.random.default_rng(0).normal(size=(8, 32, 32, 3)).astype(np.float32)
    torch_images = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    like = shapes_of(ours, images.shape)
    variables = from_state_dict(as_numpy(theirs.state_dict()), like)

    with torch.no_grad():
        expected = theirs.eval()(torch_images).numpy()
        expected_in_training = theirs.train()(torch_images).numpy()
    logits = ours.apply(variables, images, train=False)["logits"]
    assert np.abs(logits - expected).max() <= 1e-4 * np.abs(expected).max()

    maps, updated = ours.apply(variables, images, train=True, mutable=["batch_stats"])
    difference = np.abs(maps["logits"] - expected_in_training).max()
    assert difference <= 1e-4 * np.abs(expected_in_training).max()

    # The statistics after that step too, but for torch's unbiased variance.
    after = from_state_dict(as_numpy(theirs.state_dict()), like)
    for path, statistic in jax.tree.leaves_with_path(updated.get("batch_stats", {})):
        *modules, leaf = (key.key for key in path)
        theirs_after, before = after["batch_stats"], variables["batch_stats"]
        for module in (*modules, leaf):
            theirs_after, before = theirs_after[module], before[module]
        if leaf == "var":
            side = 32 // {"layer2": 2, "layer3": 4}.get(modules[0].split("_")[0], 1)
            n = len(images) * side**2
            theirs_after = 0.9 * before + (theirs_after - 0.9 * before) * (n - 1) / n
        np.testing.assert_allclose(statistic, theirs_after, rtol=1e-4, atol=1e-5, err_msg=path)
