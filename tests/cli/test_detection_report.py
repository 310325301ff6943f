"""What an evaluation of a detector leaves: tables, precision-recall curves, confusions."""

import types

import numpy as np
import pytest

from jaxvision.cli.kinds.detection_report import class_table, detection_figures, detection_files
from jaxvision.core import Detections
from jaxvision.engine import Evaluation
from jaxvision.ops import MaskTable, encode_mask
from jaxvision.tasks.detection_metrics import summarize_detections

NAMES = ("cat", "dog", "cow")


def tables_of(names=NAMES, *, masks=False):
    """Two images; a cat that is found, a dog that is found as a cow, and no cow.

    With masks, the cat's is half of what is found, in the same box.
    """
    boxes = np.float32([[[0, 0, 10, 10]]] * 2)
    found = Detections(
        boxes=boxes,
        scores=np.float32([[0.9], [0.8]]),
        labels=np.array([[0], [2]]),
        valid=np.ones((2, 1), bool),
    )
    if masks:
        found = found.replace(masks=np.empty(2, object))
        found.masks[:] = [MaskTable.of([mask_of(10)])] * 2
    none = np.zeros(1, bool)
    records = [
        {
            "boxes": np.float64(box),
            "labels": np.array([label]),
            "crowd": none,
            "difficult": none,
            "masks": (mask_of(6),),
            "size": (20, 20),
        }
        for label, box in enumerate(boxes)
    ]
    options = {"voc_inclusive": False, "confusion_score": 0.3}
    return summarize_detections(found, records, num_classes=len(names), **options).tables


def mask_of(columns):
    """The mask of some columns of a box of 10 x 10 in an image of 20 x 20."""
    mask = np.zeros((20, 20), bool)
    mask[:10, :columns] = True
    return encode_mask(mask)


def files_of(tables):
    shown = types.SimpleNamespace(
        evaluation=Evaluation({}, tables, None),
        class_names=NAMES,
    )
    return {name: list(map(list, rows)) for name, rows in detection_files(shown).items()}


def test_the_table_has_a_dash_for_a_class_without_objects():
    assert [line.split() for line in class_table(tables_of(), NAMES).splitlines()] == [
        ["class", "objects", "AP", "AP50", "AP75"],
        ["cat", "1", "1.000", "1.000", "1.000"],
        ["dog", "1", "0.000", "0.000", "0.000"],
        ["cow", "0", "-", "-", "-"],
    ]


def test_the_files_have_the_classes_their_curves_and_confusions():
    files = files_of(tables_of())
    assert files["classes"] == [
        ["class", "objects", "AP", "AP50", "AP75"],
        ["cat", 1, 1.0, 1.0, 1.0],
        ["dog", 1, 0.0, 0.0, 0.0],
        ["cow", 0, "", "", ""],
    ]
    titles, *rows = files["precision_recall"]
    assert titles == ["iou", "recall", "mean", *NAMES]
    assert len(rows) == 2 * 101
    assert rows[0] == [0.5, 0.0, 0.5, 1.0, 0.0, ""]
    assert rows[101 + 29][:2] == [0.75, 0.29]
    assert files["confusions"] == [
        ["truth \\ predicted", *NAMES, "background"],
        ["cat", 1, 0, 0, 0],
        ["dog", 0, 0, 1, 0],
        ["cow", 0, 0, 0, 0],
        ["background", 0, 0, 0, 0],
    ]


def test_masks_have_columns_and_curves_beside_those_of_the_boxes():
    """The cat's mask has an IoU of 0.6: it is found at three of ten thresholds."""
    tables = tables_of(masks=True)
    assert [line.split() for line in class_table(tables, NAMES).splitlines()[:2]] == [
        ["class", "objects", "AP", "AP50", "AP75", "mask_AP", "mask_AP50", "mask_AP75"],
        ["cat", "1", "1.000", "1.000", "1.000", "0.300", "1.000", "0.000"],
    ]
    files = files_of(tables)
    assert files["classes"][1] == ["cat", 1, 1.0, 1.0, 1.0, 0.3, 1.0, 0.0]
    assert files["classes"][3] == ["cow", 0, *[""] * 6]
    boxes, masks = files["precision_recall"], files["mask_precision_recall"]
    assert boxes[:102] == masks[:102]
    assert boxes[102] == [0.75, 0.0, 0.5, 1.0, 0.0, ""]
    assert masks[102] == [0.75, 0.0, 0.0, 0.0, 0.0, ""]


def test_of_very_many_classes_there_is_no_matrix(capsys):
    tables = tables_of()
    del tables["confusions"]
    assert files_of(tables).keys() == {"classes", "precision_recall"}
    assert "no table of confusions: 4 classes are too many" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("names", [NAMES, [str(number) for number in range(40)]])
def test_the_figures_are_drawn(names, tmp_path):
    full = tables_of(names, masks=True)
    for tables in (full, {**full, **nothing(len(names))}):
        for name, figure in detection_figures(tables, names).items():
            figure.savefig(tmp_path / f"{name}.png")
            assert (tmp_path / f"{name}.png").stat().st_size > 5000, name


def nothing(classes):
    """The tables of data without objects."""
    curves = np.full((classes, 101), np.nan)
    return {
        "precision50": curves,
        "precision75": curves,
        "mask_precision50": curves,
        "mask_precision75": curves,
        "confused_pairs": np.zeros((0, 3), int),
        "confusions": np.zeros((classes + 1, classes + 1), int),
    }
