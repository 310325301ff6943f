"""A small YOLOv2 on the embedded scenes: digits on photographs, 96x96.

python train.py --config=configs/scenes_yolov2_tiny.py
"""

from jaxvision.cli.config import default_config


def get_config():
    config = default_config("detection")
    config.steps = 600
    config.batch_size = 32
    config.eval_every = 200
    config.best.metric = "AP50"

    config.model.name = "yolov2"
    config.model.backbone = {
        "name": "plain_darknet",
        "stages": (
            (0, ((16, 3),)),
            (1, ((32, 3),)),
            (2, ((64, 3),)),
            (3, ((128, 3), (64, 1), (128, 3))),
        ),
    }
    config.model.level = 3
    config.model.convolutions = (128,)
    config.model.passthrough = 32
    config.anchors = ((9, 17), (15, 25), (21, 33))

    config.data.source = "scenes"
    config.data.validation_fraction = 0.05
    config.data.image_size = 96
    config.data.class_names = tuple("0123456789")
    config.data.max_boxes = 8
    config.data.cache = True

    config.loss.name = "yolov2_loss"
    config.loss.prior_steps = 50

    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 3e-3
    config.optimizer.weight_decay = 0.01
    config.optimizer.schedule.name = "one_cycle"
    config.optimizer.schedule.warmup = 0.2
    return config
