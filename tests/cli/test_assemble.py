"""From a config to the pieces that the engine takes."""

import json
import os
import types

import pytest

from jaxvision.cli import assemble


@pytest.mark.parametrize(
    ("asked", "before", "after"),
    [
        (True, None, "--xla_gpu_deterministic_ops=true"),
        (True, "--xla_a=1", "--xla_a=1 --xla_gpu_deterministic_ops=true"),
        (False, "--xla_a=1", "--xla_a=1"),
    ],
)
def test_determinism_is_asked_of_xla(monkeypatch, asked, before, after):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    if before is not None:
        monkeypatch.setenv("XLA_FLAGS", before)
    assemble.set_determinism(types.SimpleNamespace(deterministic=asked))
    assert os.environ["XLA_FLAGS"] == after


def test_a_run_from_before_a_key_existed_gets_its_default(tmp_path):
    saved = {"steps": 7, "model": {"name": "resnet20", "blocks": 1}, "data": {"channels": 3}}
    (tmp_path / "config.json").write_text(json.dumps(saved))
    config = assemble.saved_config(tmp_path)
    assert config.steps == 7
    assert config.model.to_dict() == {"name": "resnet20", "blocks": 1}
    assert config.data.channels == 3
    assert config.optimizer.schedule.name == "cosine"
