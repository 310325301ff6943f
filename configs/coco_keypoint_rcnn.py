"""Keypoint R-CNN with ResNet-50 on COCO's persons, with the settings of torchvision's weights.

    python train.py --config=configs/coco_keypoint_rcnn.py --workdir=runs/coco_keypoint_rcnn \\
        --config.data.dir=coco --config.init_from=resnet50:IMAGENET1K_V1

The folder has annotations/person_keypoints_train2017.json and person_keypoints_val2017.json, and
the images in train2017/ and val2017/. 46 epochs in batches of 16, of the 64,115 images that show
persons, with a shorter side of 640 to 800 pixels; torchvision's weights have an AP of 0.546 for
boxes and 0.650 for keypoints.
config.init_from needs weights of ImageNet: the backbone's norms are frozen, so they keep the
statistics of these weights, and its first two stages are not trained.

Torchvision's figures are those of images one by one, each with a shape of its own: evaluate with
--config.data.shapes=exact --config.data.resampling=float32. In bfloat16:
--config.model.dtype=bfloat16. It has not been trained here.
"""

import pathlib
import runpy

from jaxvision.data import COCO_SKELETON


def get_config():
    boxes = pathlib.Path(__file__).with_name("coco_faster_rcnn.py")
    config = runpy.run_path(str(boxes))["get_config"]()
    config.steps = 182_500
    config.eval_every = 3967
    config.model.name = "keypointrcnn_resnet50_fpn"

    config.data.class_names = ("person",)
    config.data.keypoints = True
    config.data.drop_empty = True
    config.data.sizes = (640, 672, 704, 736, 768, 800)

    config.augment.preset = "multiscale"
    config.augment.swap = COCO_SKELETON.swap

    config.optimizer.schedule.warmup = 0.0055  # 1,000 updates
    config.optimizer.schedule.milestones = (0.7826, 0.9348)  # epochs 36 and 43
    return config
