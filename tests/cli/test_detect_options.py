"""What config.detect leaves out is the detector's own default, also in a config that was saved."""

import dataclasses

import pytest

from jaxvision.cli.config import default_config
from jaxvision.cli.kinds.detection import FAMILIES, decode_options
from jaxvision.core import OptionError
from jaxvision.tasks import DETECTORS, DetectOptions
from jaxvision.tasks.detectors import (
    FASTER_RCNN_DECODE,
    FCOS_DECODE,
    RETINANET_DECODE,
    SSD_DECODE,
    YOLOV4_DECODE,
)


def own_detector(model, *, decode=None):
    """One of the user's own, without options of decoding."""


def test_each_detector_has_its_own_defaults():
    config = default_config("detection")
    config.update(config.to_dict())  # as a saved one is read
    one = DetectOptions(score_threshold=0.0)  # its only box is a detection
    defaults = {
        "localizer": one,
        **dict.fromkeys(("fast_rcnn", "faster_rcnn"), FASTER_RCNN_DECODE),
        "fcos": FCOS_DECODE,
        "retinanet": RETINANET_DECODE,
        "ssd": SSD_DECODE,
        **dict.fromkeys(("yolov4", "yolov4_csp", "yolov4_tiny"), YOLOV4_DECODE),
    }
    for name, constructor in DETECTORS.items():
        expected = defaults.get(name, DetectOptions())
        assert decode_options(config, constructor) == expected
    assert decode_options(config, own_detector) == DetectOptions()
    config.detect.max_detections = 7
    changed = dataclasses.replace(FCOS_DECODE, max_detections=7)
    assert decode_options(config, DETECTORS["fcos"]) == changed
    config.detect.score_threshold = 2.0
    with pytest.raises(OptionError, match=r"^config.detect.score_threshold is 2.0"):
        decode_options(config, DETECTORS["fcos"])


def test_every_network_has_a_detector():
    assert set(FAMILIES.values()) == set(DETECTORS)
