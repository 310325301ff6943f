"""Damaged inputs of every format: read as an independent reader does, or refused in a few lines."""

import logging
import os
import shutil

import pytest

from jaxvision.core import InputError
from tests.fuzz.formats import FORMATS
from tests.fuzz.outcomes import READ, WrongError, judge, run, sample_of

SLOW, LONG = 500, 10_000
QUICK = tuple(name for name in FORMATS if name not in ("run", "checkpoints", "pth"))


@pytest.fixture(autouse=True)
def _quiet():
    """The libraries' warnings about damaged files would fill the report of a failure."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", QUICK)
def test_a_sound_sample_is_read(name):
    with sample_of(name) as folder:
        assert judge(FORMATS[name], folder) == READ


@pytest.mark.parametrize("name", QUICK)
def test_no_reader_waits_for_a_pipe(name, tmp_path):
    with sample_of(name) as sample:
        files = [path.relative_to(sample) for path in sample.rglob("*") if path.is_file()]
        for number, file in enumerate(files):
            folder = shutil.copytree(sample, tmp_path / str(number))
            (folder / file).unlink()
            os.mkfifo(folder / file)
            try:
                judge(FORMATS[name], folder)  # a pipe among images to predict is no image
            except WrongError as error:
                raise AssertionError(f"a pipe as {file}: {error}") from error


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    "inputs",
    [
        pytest.param(SLOW, marks=pytest.mark.slow),
        pytest.param(LONG, marks=pytest.mark.long),
    ],
)
def test_damaged_inputs(name, inputs, tmp_path):
    wrong = []
    with sample_of(name) as sample:
        for seed in range(round(inputs * FORMATS[name].share)):
            try:
                run(name, seed, sample, tmp_path / str(seed))
            except WrongError as error:
                wrong.append(str(error))
    assert not wrong, f"{len(wrong)} inputs:\n" + "\n".join(wrong[:20])


def test_a_reader_that_fails_or_reads_wrong_is_noticed():
    """The judge can fail: else the suite would say nothing."""
    form = FORMATS["npz"]

    def fail(folder):
        raise KeyError("x")

    def say_much(folder):
        raise InputError("\n" * 100)

    with sample_of("npz") as folder:
        for read in (fail, say_much, lambda folder: []):
            with pytest.raises(WrongError):
                judge(form._replace(read=read), folder)
        with pytest.raises(WrongError, match="independent reader fails: KeyError"):
            judge(form._replace(truth=fail), folder)
