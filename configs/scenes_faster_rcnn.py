"""A small Faster R-CNN on the embedded scenes: digits on photographs, 96x96.

    python train.py --config=configs/scenes_faster_rcnn.py

The region proposal network has one map of stride 8. It proposes 100 regions in training and 32 in
evaluation, of which RoIAlign takes 5x5 bins each; both stages are trained jointly. Reaches AP50
0.947 on the 500 test scenes, in 8.2 minutes on 2 cores of an AMD EPYC (2026-12-02).
"""

from jaxvision.cli.config import default_config


def get_config():
    config = default_config("detection")
    config.steps = 3000
    config.batch_size = 16
    config.eval_every = 3000
    config.best.metric = "AP50"

    config.model.name = "faster_rcnn"
    config.model.backbone = {
        "name": "plain_darknet",
        "stages": (
            (0, ((16, 3),)),
            (1, ((32, 3),)),
            (2, ((64, 3),)),
            (3, ((128, 3), (64, 1), (128, 3))),
        ),
    }
    config.model.levels = ("c3",)  # one map is enough for digits of 10 to 35 pixels
    config.model.features = None  # no pyramid
    config.model.anchor_sizes = ((15, 21),)
    config.model.aspect_ratios = (1.4, 2.0)
    config.model.rounded_anchors = False
    config.model.box_size = 5
    config.model.aligned = True
    config.model.class_agnostic = True
    config.model.box_head = {"name": "mlp", "hidden": 128}
    config.detector.rpn_pre_nms_top_n_train = 200
    config.detector.rpn_post_nms_top_n_train = 100
    config.detector.rpn_pre_nms_top_n_test = 200
    config.detector.rpn_post_nms_top_n_test = 32
    config.detector.box_batch_size_per_image = 32
    config.loss.rpn_batch_size_per_image = 64

    config.data.source = "scenes"
    config.data.validation_fraction = 0.05
    config.data.image_size = 96
    config.data.class_names = tuple("0123456789")
    config.data.max_boxes = 8
    config.data.cache = True

    config.augment.jitter = 0.2
    config.augment.hue = 0.5  # the test scenes are on a photograph of other colours
    config.augment.saturation = 2.0
    config.augment.value = 1.5

    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 1e-2
    config.optimizer.weight_decay = 0.05
    config.optimizer.schedule.name = "one_cycle"
    config.optimizer.schedule.warmup = 0.2
    return config
