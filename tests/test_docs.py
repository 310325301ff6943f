"""The pages in docs/ show code that runs."""

import importlib.util
import pathlib
import re
import subprocess
import sys

import pytest

DOCS = pathlib.Path(__file__).parent.parent / "docs"
SCRIPT = DOCS / "own_loss.py"


def test_the_page_on_losses_shows_what_is_in_its_script():
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "losses.md").read_text(), re.DOTALL)
    assert len(blocks) >= 5
    for block in blocks:
        assert block in SCRIPT.read_text(), block


def test_the_losses_of_the_page_are_proven():
    spec = importlib.util.spec_from_file_location("own_loss", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.prove()


@pytest.mark.slow
def test_the_script_trains_by_name_and_draws_the_hardest_digits(tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT, f"--workdir={tmp_path}", "--steps=200"],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert "poly_loss" in (tmp_path / "config.json").read_text()
    assert "classification_loss" in (tmp_path / "metrics.jsonl").read_text()
    mean = re.search(r"359 test digits: mean loss ([\d.]+), mean norm ([\d.]+)", done.stdout)
    hardest = re.findall(r"digit \d: loss ([\d.]+), norm of its gradient ([\d.]+)", done.stdout)
    assert len(hardest) == 5
    for loss, norm in hardest:  # hard digits pull harder than the mean
        assert float(loss) > float(mean[1])
        assert float(norm) > float(mean[2])
    assert (tmp_path / "hardest.png").stat().st_size > 10_000
