"""Keys of every kind of task that say how a step is computed: norms, dtype, recomputation."""

import pytest

from jaxvision.cli.config import default_config
from jaxvision.cli.kinds import KINDS
from jaxvision.cli.setup import build
from jaxvision.core import OptionError
from tests import tiny_detector
from tests.cli.test_own_detector import FILE
from tests.marks import slow_but

NETWORKS = {
    "classification": {"name": "resnet20", "blocks": 1, "widths": (4,)},
    "landmarks": {"name": "unet", "widths": (4, 6)},
    "restoration": {"name": "dncnn_s", "depth": 3, "width": 4},
    "segmentation": {"name": "unet", "widths": (4, 6)},
}
"""Kind -> its network, but that of detection."""


def config_of(kind):
    if kind == "detection":
        config = tiny_detector.get_config()
    else:
        config = default_config(kind)
        config.model = NETWORKS[kind]
        config.data.image_size = 16
    if "class_names" in config.data:
        config.data.class_names = ("a", "b")
    return config


@pytest.mark.parametrize("kind", slow_but(KINDS, ["classification", "segmentation"]))
def test_the_same_keys_are_for_all_kinds(kind):
    config = config_of(kind)
    task = build(config).task
    model = task.origin["forward"][1]["model"]
    assert task.sync_batch_norm
    config.sync_batch_norm, config.remat, config.model.dtype = False, True, "bfloat16"
    for evaluation in (False, True):
        other = build(config, evaluation=evaluation).task
        assert not other.sync_batch_norm
        changed = other.origin["forward"][1]["model"]
        assert changed == {**model, "remat": True, "dtype": "bfloat16"}


def test_recomputation_is_a_key_of_the_run_and_needs_a_network_that_has_it():
    config = config_of("classification")
    config.model.remat = True
    with pytest.raises(OptionError, match=r"^config\.model\.remat: set config\.remat, "):
        build(config)
    config = config_of("detection")
    config.remat, config.model = True, {"name": f"{FILE}:Net"}
    config.detector.name = f"{FILE}:centre_points"
    message = rf"^config\.remat is set, but {FILE}:Net has no field remat: leave it out"
    with pytest.raises(OptionError, match=message):
        build(config)
