"""`jaxvision plan`: its table, its JSON, and what it refuses."""

import json

import pytest


def test_the_command(command):
    code, out, err = command(
        "plan", "--config=digits_lenet5", "--config.batch_size=8", "--target=cpu:2", "--json"
    )
    assert code == 0, err
    found = json.loads(out)
    assert found["devices"] == 2
    assert found["train"]["batch_size"] == found["evaluation"]["batch_size"] == 8
    assert found["train"]["memory"]["total"] > 0
    assert found["train"]["cost"]["collectives"][0]["kind"] == "all-reduce"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no --config"),
        (("--config=digits_lenet5",), "no --target"),
        (("--config=digits_lenet5", "--target=gpu-h100:8"), "of an unknown kind"),
        (("--config=digits_lenet5", "--target=tpu-v5e:4"), "the form of a slice"),
        (("--config=digits_lenet5", "--target=cpu:64"), "this process has 4 CPU devices"),
        (
            ("--config=digits_lenet5", "--target=cpu:3", "--config.batch_size=8"),
            "3 devices",
        ),
    ],
)
def test_what_the_command_refuses(command, arguments, message):
    code, out, err = command("plan", *arguments)
    assert code == 2
    assert out == ""
    assert message in err
