"""Claims about networks hold, or are known not to hold, and the page in docs/ is up to date."""

import importlib.util
import pathlib

import pytest

DOCS = pathlib.Path(__file__).parent.parent / "docs"
REFUTED = {
    "Inception module on 28 x 28 x 256, multiplications: with bottlenecks, on a slide",
    "AlexNet's parameters divided by GoogLeNet's (without auxiliary classifiers)",
    "VGG-16's parameters divided by GoogLeNet's (without auxiliary classifiers)",
    "VGG-16: values of all layers for an image",
    "resnet50: operations, 224 x 224",
}


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("make_claims", DOCS / "make_claims.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.long
def test_every_claim_holds_but_those_known_not_to(script):
    claims = [claim for section in script.SECTIONS for claim in section()]
    assert len({claim.what for claim in claims}) == len(claims) > 50
    assert {claim.what for claim in claims if not claim.holds} == REFUTED
    assert all(claim.why for claim in claims if not claim.holds)


@pytest.mark.parametrize(
    ("said", "computed", "by", "holds"),
    [
        (3.8, 3.858, 0.1, True),
        (3.8, 3.95, 0.1, False),
        (27, 27.0, 0, True),
        (27, 28, 0, False),
        ((7, 7, 30), (7, 7, 30), 0, True),
        ((7, 7, 30), (7, 7, 25), 0, False),
    ],
)
def test_a_claim_holds_to_its_last_digit(script, said, computed, by, holds):
    assert script.Claim("", said, computed, by=by).holds == holds


def test_values_of_another_shape_are_an_error(script):
    with pytest.raises(ValueError, match="shape"):
        _ = script.Claim("", (7, 7, 30), (7, 7)).holds


@pytest.mark.slow
def test_the_page_is_what_the_script_prints(script, capsys):
    script.main()
    assert capsys.readouterr().out == (DOCS / "claims.md").read_text()
