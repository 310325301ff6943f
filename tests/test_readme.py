"""The README's examples run, in order, as they stand."""

import pathlib
import re

import chex
import pytest

ROOT = pathlib.Path(__file__).parent.parent


@pytest.mark.slow
def test_the_examples_run():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) >= 3
    names = {}
    for block in blocks:
        exec(block, names)
    chex.assert_tree_all_finite(names["gradient"])
    assert set(
        names["task"].loss(
            {"logits": names["jax"].numpy.zeros(10)},
            type("Example", (), {"label": 3}),
            key=None,
            step=0,
        )
    ) == {"cross_entropy", "entropy"}


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "docs/losses.md"])
def test_links_lead_somewhere(document):
    text = (ROOT / document).read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert ((ROOT / document).parent / target).exists(), target


def test_every_config_is_in_the_readme():
    text = (ROOT / "README.md").read_text()
    for path in (ROOT / "configs").glob("*.py"):
        assert f"`{path.stem}`" in text, path.stem
