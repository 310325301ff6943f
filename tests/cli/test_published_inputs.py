"""The configs of published weights prepare images as `load_pretrained` says."""

import pytest

from jaxvision.cli import setup
from jaxvision.cli.network import config_of_model, set_published
from jaxvision.interop import published_weights

# Each way to prepare images, by the smallest network that has it.
ROWS = {
    repr((row.input_options, row.fields)): row
    for row in sorted(published_weights(), key=lambda row: -row.params)
}


@pytest.mark.long
@pytest.mark.parametrize("task", ["classification", "detection", "segmentation"])
def test_inputs_are_those_of_the_python_api(task):
    rows = [row for row in ROWS.values() if row.task == task]
    assert rows
    for row in rows:
        config = config_of_model(row.model)
        set_published(config, row)
        config.data.class_names = row.class_names or setup.numbered(1000)
        made = setup.build(config, evaluation=True).task
        assert made.inputs == row.inputs, row.full_name
