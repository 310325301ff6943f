"""What an evaluation of a classifier leaves: tables, figures and mistakes."""

import csv
import types

import numpy as np
import pytest
from PIL import Image

from jaxvision.cli.kinds.class_report import class_figures, class_files, class_table
from jaxvision.cli.report import draw_figures
from jaxvision.engine import Evaluation
from jaxvision.tasks.classification import _summarize

NAMES = ("cat", "dog", "cow")
LABELS = np.array([0, 0, 0, 0, 1, 1])
PREDICTED = np.array([0, 0, 1, 1, 1, 0])


def tables_of(labels, predicted, num_classes):
    confidence = np.full(len(labels), 0.5, np.float32)
    columns = {"label": labels, "predicted": predicted, "confidence": confidence}
    return _summarize(columns, num_classes).tables


def test_the_table_of_few_classes_has_all_and_a_dash_where_there_is_none():
    table = class_table(tables_of(LABELS, PREDICTED, 3), NAMES)
    assert [line.split() for line in table.splitlines()] == [
        ["class", "support", "precision", "recall", "F1"],
        ["cat", "4", "0.667", "0.500", "0.571"],
        ["dog", "2", "0.333", "0.500", "0.400"],
        ["cow", "0", "-", "-", "-"],
        ["mean", "6", "0.500", "0.500", "0.486"],
    ]
    none = np.zeros(0, int)
    assert class_table(tables_of(none, none, 3), NAMES).splitlines()[-1].split()[1:3] == ["0", "-"]


MANY = [f"class {number}" for number in range(40)]


def tables_of_many():
    labels = np.tile(np.arange(40), 5)
    predicted = np.where((labels % 8 == 7) & (np.arange(200) < 120), labels - 1, labels)
    return tables_of(labels, predicted, 40)


def test_of_many_classes_the_worst_are_listed():
    tables = tables_of_many()
    lines = class_table(tables, MANY).splitlines()
    assert len(lines) == 1 + 30 + 1 + 1
    assert lines[1].startswith("class 7 ")
    assert "of 40 classes" in lines[-1]
    assert tables["confused_pairs"][:2].tolist() == [[7, 6, 3], [15, 14, 3]]


def test_of_very_many_classes_there_is_no_matrix(capsys):
    names = [str(number) for number in range(21_841)]
    labels, predicted = np.array([7, 7, 21_840, 3]), np.array([9, 9, 0, 3])
    tables = tables_of(labels, predicted, len(names))
    assert "confusions" not in tables
    assert tables["confused_pairs"].tolist() == [[7, 9, 2], [21_840, 0, 1]]
    assert class_table(tables, names).splitlines()[1].split()[:2] == ["7", "2"]
    collected = {"label": labels, "predicted": predicted, "confidence": np.full(4, 0.5)}
    shown = types.SimpleNamespace(
        evaluation=Evaluation({}, tables, collected),
        class_names=names,
        records=types.SimpleNamespace(where=str),
    )
    files = {name: list(rows) for name, rows in class_files(shown).items()}
    assert files.keys() == {"classes", "calibration", "mistakes"}
    assert len(files["classes"]) == 1 + len(names)
    assert list(files["classes"][4]) == ["3", 1, 1.0, 1.0, 1.0]
    assert files["mistakes"][3] == ["2", "21840", "0", 0.5]
    assert "no table of confusions: 21841 classes are too many" in capsys.readouterr().err


@pytest.mark.slow
def test_confusions_and_calibration_are_drawn(tmp_path):
    for some in (tables_of_many(), tables_of(LABELS, PREDICTED, 3)):
        names = MANY[: len(some["class_support"])]
        figures = class_figures(some, names)
        kind = types.SimpleNamespace(figures=lambda *_, figures=figures: figures)
        draw_figures(
            kind, Evaluation({}, some, None), names, lambda name, end: tmp_path / f"{name}.{end}"
        )
        with Image.open(tmp_path / "confusions.png") as picture:
            assert min(picture.size) > 300
        assert (tmp_path / "calibration.png").stat().st_size > 5000


@pytest.mark.slow
def test_evaluating_a_classifier_leaves_tables_and_its_worst_mistakes(trained, evaluated):
    result, err = evaluated("colors")
    folder = trained("colors").folder
    assert {"accuracy", "ece"} <= result.keys()
    assert 0 <= result["ece"] <= 1
    assert "top5_accuracy" not in result, "there are two classes"
    assert ["mean", "6"] in [line.split()[:2] for line in err.splitlines() if line]

    def rows(name):
        with (folder / f"{name}_test.csv").open(newline="") as table:
            return list(csv.reader(table))

    counts = np.array([row[1:] for row in rows("confusions")[1:]], int)
    assert counts.sum() == 6
    assert np.trace(counts) / 6 == pytest.approx(result["accuracy"])
    assert [row[:2] for row in rows("classes")] == [
        ["class", "support"],
        ["blue", "3"],
        ["red", "3"],
    ]
    assert sum(int(row[2]) for row in rows("calibration")[1:]) == 6
    mistakes = rows("mistakes")[1:]
    assert len(mistakes) == 6 - np.trace(counts)
    assert (folder / "mistakes_test.png").exists() == bool(mistakes)
