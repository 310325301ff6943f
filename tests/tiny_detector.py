"""A small YOLOv2 on a folder in VOC's form, for tests that train a detector by the command line."""

from jaxvision.cli.config import default_config


def get_config():
    config = default_config("detection")
    config.steps = 4
    config.batch_size = 4
    config.eval_every = 4
    config.log_every = 1

    config.model.name = "yolov2"
    config.model.backbone = {
        "name": "plain_darknet",
        "stages": ((0, ((4, 3),)), (1, ((8, 3),))),
    }
    config.model.level = 1
    config.model.convolutions = (8,)
    config.model.passthrough = None
    config.anchors = ((4, 4), (10, 10))

    config.data.source = "voc"
    config.data.test_split = "train"
    config.data.validation_fraction = 0.0
    config.data.image_size = 16
    config.data.max_boxes = 4
    config.augment.flip = 0.5
    config.loss.prior_steps = 0
    return config
