"""A network of each family beside torchvision's in double precision: nothing hides in rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.interop import from_state_dict
from jaxvision.models import create_model
from tests.marks import long_but
from tests.models import torchvision_table
from tests.models.parity import outputs_of, settle, state_of, torchvision_network
from tests.models.variables import shapes_of

# Side of the images.
SMALL = {
    "alexnet": 65,
    "convnext_tiny": 37,
    "densenet121": 37,
    "efficientnet_b0": 37,
    "googlenet": 37,
    "inception_v3": 77,
    "maxvit_t": 224,
    "mnasnet0_5": 37,
    "mobilenet_v2": 37,
    "mobilenet_v3_small": 37,
    "regnet_y_400mf": 37,
    "resnet18": 37,
    "shufflenet_v2_x0_5": 37,
    "squeezenet1_1": 37,
    "swin_t": 37,
    "swin_v2_t": 37,
    "vgg11_bn": 37,
    "vit_b_32": 224,
}
WITHOUT_AUX = {"aux_logits": False, "init_weights": False}
FIELDS = {"googlenet": WITHOUT_AUX, "inception_v3": WITHOUT_AUX}


# The others agree in single precision, in the files of their families.
QUICK = ("resnet18", "shufflenet_v2_x0_5", "swin_t")


@pytest.mark.parity
@pytest.mark.parametrize("name", long_but(SMALL, QUICK))
def test_logits_equal_torchvisions_in_double_precision(name):
    torch, theirs = torchvision_network(name, num_classes=10, **FIELDS.get(name, {}))
    side = SMALL[name]
    images = np.random.default_rng(0).normal(size=(2, side, side, 3))
    settle(torch, theirs.double(), images)
    expected, state = outputs_of(torch, theirs, images), state_of(theirs)
    with jax.enable_x64(True):
        ours = create_model(name, num_classes=10, dtype=jnp.float64, param_dtype=jnp.float64)
        # Flax keeps statistics in float32.
        wide = jax.tree.map(lambda x: x.update(dtype=jnp.float64), shapes_of(ours, images)[1])
        variables = from_state_dict(state, wide)
        run = jax.jit(
            lambda variables, images: ours.apply(variables, images, train=False),
            compiler_options={"xla_backend_optimization_level": 0},
        )
        found = np.asarray(run(variables, images)["logits"])
    assert found.dtype == np.float64
    assert np.ptp(expected, axis=0).max() > 1e-3 * np.abs(expected).max()
    assert np.abs(found - expected).max() <= 1e-9 * np.abs(expected).max()


@pytest.mark.parity
def test_the_table_of_all_networks(capsys):
    torchvision_table.main(["--only", "squeezenet1_1"])
    row = capsys.readouterr().out.splitlines()[2].strip("| ").split(" | ")
    assert row[:5] == ["squeezenet1_1", "224x224", "1,235,496", "0.349", "0.349"]
    assert 0 < float(row[5]) < 1e-4 < float(row[6]) < 0.1
