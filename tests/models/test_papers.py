"""The table of the papers' networks."""

import pytest

from jaxvision.models import CLASSIFIERS
from tests.models import papers_table


@pytest.mark.slow
def test_a_row_of_the_table(capsys):
    papers_table.main(["--only", "lenet5_1998"])
    _, _, row, _, last = capsys.readouterr().out.splitlines()
    *cells, logit = row.strip("| ").split(" | ")
    assert cells == ["lenet5_1998", "32x32x1", "60,000", "60,000", "0.0004157"]
    assert 0 < float(logit) < 1000
    assert last.startswith("1 networks on")


def test_what_is_said_is_of_networks_that_are_there():
    assert papers_table.SAID.keys() <= CLASSIFIERS.keys()


@pytest.mark.parametrize(
    ("params", "said", "fits"),
    [
        (60_000, 60_000, True),
        (60_001, 60_000, False),
        (269_722, 0.27, True),
        (300_000, 0.27, False),
        (279_000, 0.27, False),
        (1_727_962, 1.7, True),
        (5, None, True),
    ],
)
def test_a_figure_is_compared_to_its_last_digit(params, said, fits):
    assert papers_table.is_said(params, said) == fits
