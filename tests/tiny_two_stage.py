"""A small Mask R-CNN on scenes with masks, for tests that train a two-stage detector."""

from jaxvision.cli.config import default_config


def get_config():
    config = default_config("detection")
    config.steps = 30
    config.batch_size = 8
    config.eval_every = 30
    config.checkpoint_every = 2
    config.log_every = 1

    config.model.name = "mask_rcnn"
    config.model.backbone = {
        "name": "plain_darknet",
        "stages": ((1, ((4, 3),)), (2, ((8, 3),)), (3, ((8, 3),))),
    }
    config.model.levels = ("c2", "c3")
    config.model.features = 8
    config.model.anchor_sizes = ((12,), (20,), (30,))
    config.model.box_size = 3
    config.model.box_head = {"name": "mlp", "hidden": 8}
    config.model.mask_head = {"name": "mask", "depth": 1, "features": 8}
    config.model.region_size = 3
    config.detector.rpn_pre_nms_top_n_train = 40
    config.detector.rpn_post_nms_top_n_train = 20
    config.detector.rpn_pre_nms_top_n_test = 40
    config.detector.rpn_post_nms_top_n_test = 20
    config.detector.box_batch_size_per_image = 8
    config.loss.rpn_batch_size_per_image = 16
    config.detect.max_detections = 10

    config.data.source = "instances"
    config.data.test_split = "train"
    config.data.validation_fraction = 0.0
    config.data.masks = True
    config.data.image_size = 32
    config.data.max_boxes = 4
    config.augment.flip = 0.5
    return config
