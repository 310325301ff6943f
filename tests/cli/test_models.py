"""`jaxvision models`: the table, its JSON, and the layers of one."""

import json

import pytest

from jaxvision.models import MODELS, create_model, input_size, summarize
from tests.marks import long_but


def test_some_networks_as_a_table(command):
    code, out, _ = command("models", "resnet20", "lenet5*")
    assert code == 0
    header, lenet, of_1998, resnet = (line.split() for line in out.splitlines())
    assert header[0] == "network"
    assert header[-5:] == ["c1", "c2", "c3", "c4", "c5"]
    assert lenet[:2] == ["lenet5", "61,706"]
    assert of_1998[:2] == ["lenet5_1998", "60,000"]
    assert resnet[:2] == ["resnet20", "269,722"]


def test_as_json(command):
    code, out, _ = command("models", "--json", "resnet18")
    assert code == 0
    (row,) = json.loads(out)
    assert row["name"] == "resnet18"
    assert row["params"] == 11_689_512
    assert abs(row["macs"] / 1e9 - 1.814) < 0.0005  # torchvision's figure
    assert row["input_size"] == [224, 224, 3]
    assert row["maps"]["c1"] == {"channels": 64, "reduction": 2}
    assert row["maps"]["c5"] == {"channels": 512, "reduction": 32}


def test_the_layers_of_one(command):
    code, out, err = command("models", "resnet20")
    assert code == 0
    assert "resnet20, for one image of 32x32x3" in err
    for layer in ("conv1", "layer3_2_conv2", "fc"):
        assert layer in out
    assert "269,722" in out


def test_an_unknown_network(command):
    code, _, err = command("models", "resnet51")
    assert code == 2
    assert "no network is called 'resnet51': did you mean" in err


# One of each kind of task; to trace a network takes seconds.
SOME = ("vit_b_16", "yolov2_tiny", "unet", "dncnn_s")


@pytest.mark.parametrize("name", long_but(MODELS, (), SOME))
def test_every_network_takes_its_published_size(name):
    summary = summarize(create_model(name), input_size(name))
    assert summary.macs > summary.params / 100
    assert summary.maps
