"""A run of the command line in Python: `load_run` builds the task that `eval` measures."""

import pytest

import jaxvision
from jaxvision import data
from jaxvision.core import InputError
from tests.marks import long_but


def colors(folder, task):
    source = data.ImageFolder(folder / "test", class_names=task.class_names, grey=True)
    return source, data.ToClassification(task.inputs, 2)


def detection(folder, task):
    return data.VocFolder(folder, "train"), data.ToDetection(task.inputs, 2)


def segmentation(folder, task):
    source = data.MaskFolder(folder, "train", class_names=task.class_names)
    return source, data.ToSegmentation(task.inputs, 3)


def landmarks(folder, task):
    return data.LandmarkFolder(folder, "train"), data.ToLandmarks(task.inputs, 2)


def restoration(folder, task):
    photographs = data.Photographs(folder, "train")
    return data.Tiles(photographs, size=task.tile, margin=task.margin), data.ToRestoration()


READERS = {
    "colors": colors,
    "detection": detection,
    "segmentation": segmentation,
    "whole": segmentation,
    "landmarks": landmarks,
    "denoising": restoration,
    "srcnn": restoration,
    "espcn": restoration,
}
QUICK, SLOW = ("colors",), ()


@pytest.mark.parametrize("kind", long_but(READERS, QUICK, SLOW))
def test_it_measures_what_eval_does(kind, trained, evaluated):
    folder, where = trained(kind).folder, trained(kind).data
    expected = dict(evaluated(kind)[0])
    run = jaxvision.load_run(folder)
    assert run.task.loss is None
    assert run.step == expected.pop("steps")
    assert run.class_names == run.task.class_names
    source, transform = READERS[kind](where, run.task)
    batches = data.EvalLoader(source, transform, batch_size=4)
    found = jaxvision.evaluate(run.task, run.variables, batches).metrics
    for name in ("split", "variables_digest"):
        expected.pop(name)
    assert found == pytest.approx(expected, rel=1e-6)
    assert len(expected) >= 1


@pytest.mark.slow
def test_what_cannot_be_loaded(trained, tmp_path):
    folder = trained("colors").folder
    with pytest.raises(InputError, match=r"decode is for detection: the run in .* is for class"):
        jaxvision.load_run(folder, decode={"score_threshold": 0.5})
    task = jaxvision.load_run(folder).task
    with pytest.raises(InputError, match="decode changes a task that is built from the run"):
        jaxvision.load_run(folder, task=task, decode={"score_threshold": 0.5})
    with pytest.raises(InputError, match="no checkpoint"):
        jaxvision.load_run(folder, step=77)
    with pytest.raises(InputError, match=f"no run in {tmp_path}: "):
        jaxvision.load_run(tmp_path)
    folder = trained("detection").folder
    with pytest.raises(InputError, match="score_threshold is 2"):
        jaxvision.load_run(folder, decode={"score_threshold": 2})
    with pytest.raises(InputError, match="score_treshold"):
        jaxvision.load_run(folder, decode={"score_treshold": 0.5})
