"""The figures that normalize images: for which networks they are known, and torchvision's."""

import pytest

from jaxvision.cli.network import config_of_model
from jaxvision.core import Inputs
from jaxvision.models import (
    CLASSIFIERS,
    DETECTORS,
    SEGMENTERS,
    input_figures,
    input_resizing,
    input_size,
)
from jaxvision.models.published import IMAGENET_MEAN, IMAGENET_STD
from tests.ops.parity import import_torchvision

OF_TORCHVISION, OF_DARKNET = 80, 4
SEGMENTERS_OF_TORCHVISION = (
    *("deeplabv3_resnet50", "deeplabv3_resnet101", "deeplabv3_mobilenet_v3_large"),
    *("fcn_resnet50", "fcn_resnet101", "lraspp_mobilenet_v3_large"),
)


def known(names):
    return [name for name in names if input_figures(name) is not None]


def test_figures_are_known_where_torchvision_or_darknet_has_weights():
    assert len(known(CLASSIFIERS)) == OF_TORCHVISION + OF_DARKNET
    of_any_backbone = {"fcos", "localizer", "retinanet", "ssd", "ssdlite"}
    of_any_backbone |= {"fast_rcnn", "faster_rcnn", "mask_rcnn", "keypoint_rcnn"}
    without_weights = {"fasterrcnn_vgg16", "fasterrcnn_resnet50_c4", "rpn_resnet50_fpn"}
    without_weights |= {"fastrcnn_vgg16", "fastrcnn_resnet50_fpn"}
    assert set(known(DETECTORS)) == DETECTORS.keys() - of_any_backbone - without_weights
    assert set(known(SEGMENTERS)) == set(SEGMENTERS_OF_TORCHVISION)
    for name in known([*CLASSIFIERS, *DETECTORS, *SEGMENTERS]):
        mean, std = input_figures(name)
        assert len(mean) == len(std) == input_size(name)[2]
    assert input_figures("fcn_resnet50") == (IMAGENET_MEAN, IMAGENET_STD)
    assert input_figures("darknet19") == ((0, 0, 0), (1, 1, 1))
    assert input_figures("resnet20") is None


def test_torchvisions_detectors_resize_as_there():
    assert Inputs(**input_resizing("fcos_resnet50_fpn")).size_of((576, 768)) == (800, 1088)
    assert Inputs((300, 300), **input_resizing("ssd300_vgg16")).resampling == "float32"
    assert input_resizing("yolov3") == {}
    config = config_of_model("ssdlite320_mobilenet_v3_large")
    assert (config.data.image_size, config.data.resize) == (320, "stretch")
    assert (config.detect.score_threshold, config.detect.max_detections) == (0.001, 300)
    assert config_of_model("retinanet_resnet50_fpn").data.shapes == "exact"
    config = config_of_model("fasterrcnn_mobilenet_v3_large_320_fpn")
    assert (config.data.shorter_side, config.data.longer_side) == (320, 640)
    assert (config.detector.rpn_score_thresh, config.detector.rpn_pre_nms_top_n_test) == (0.05, 150)


@pytest.mark.parity
def test_figures_are_torchvisions():
    _, models = import_torchvision("models")
    names = [name for name in models.list_models() if name in CLASSIFIERS]
    assert len(names) == OF_TORCHVISION
    segmenters = models.list_models(module=models.segmentation)
    assert sorted(segmenters) == sorted(SEGMENTERS_OF_TORCHVISION)
    for name in [*names, *segmenters]:
        weights = models.get_model_weights(name).DEFAULT
        theirs = weights.transforms()
        expected = tuple(theirs.mean), tuple(theirs.std)
        if name in ("googlenet", "inception_v3"):  # theirs bring images to these figures inside
            assert expected == (IMAGENET_MEAN, IMAGENET_STD)
            expected = (0.5,) * 3, (0.5,) * 3
        assert input_figures(name) == expected
