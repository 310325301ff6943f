"""Augmentations of detection by the names of options."""

import re

import pytest

from jaxvision import augment
from jaxvision.cli.kinds.detection_augment import DetectionAugment
from jaxvision.core import OptionError


def test_a_preset_is_all_augmentations():
    assert DetectionAugment(preset="ssd").steps() == augment.detection_preset("ssd")
    with pytest.raises(OptionError, match=r"^preset: unknown preset 'sd': did you mean 'ssd'"):
        DetectionAugment(preset="sd").steps()
    message = "preset is 'ssd', which has all augmentations, but flip is 0.5: leave one of them out"
    with pytest.raises(OptionError, match=f"^{re.escape(message)}$"):
        DetectionAugment(preset="ssd", flip=0.5)


def test_objects_are_pasted_after_moves_and_flips_of_both_images():
    preset = augment.detection_preset("lsj")
    paste = augment.CopyPaste(0.5)
    assert DetectionAugment(preset="lsj", copy_paste=0.5).steps() == (*preset, paste)
    options = {"mosaic": 0.5, "mixup": 0.5, "jitter": 0.1, "zoom_out": 0.5, "translate": 0.1}
    options |= {"scale_jitter": (0.5, 2.0), "flip": 0.5, "hue": 0.1, "distort": 0.5}
    steps = DetectionAugment(copy_paste=0.5, **options).steps()
    names = [type(step).__name__ for step in steps]
    assert len(steps) == 10
    assert names[-3:] == ["RandomFlip", "CopyPaste", "RandomHsv"]
    assert steps[-2] == paste
    with pytest.raises(OptionError, match=r"^copy_paste is 1.5: give at least 0 and at most 1$"):
        DetectionAugment(copy_paste=1.5)


def test_single_options_of_detectors():
    options = DetectionAugment(zoom_out=0.5, iou_crop=True, distort=0.25, flip=0.5)
    zoom_out = augment.RandomZoomOut(0.5, fill=augment.MEAN_COLOR)
    distort = augment.RandomPhotometricDistort(probability=0.25)
    crop = augment.RandomIoUCrop(zoom_out=zoom_out)
    assert options.steps() == (distort, crop, augment.RandomFlip(0.5))
    assert DetectionAugment(zoom_out=0.5).steps() == (zoom_out,)
    paste = augment.CopyPaste(0.75)
    assert DetectionAugment(copy_paste=0.75).steps() == (paste,)
    jitter = augment.ScaleJitter((0.5, 2.0), least_visible=0.25)
    assert DetectionAugment(scale_jitter=(0.5, 2.0)).steps() == (jitter,)
