"""Mask R-CNN with ResNet-50 and a pyramid on COCO, with the settings of torchvision's weights.

    python train.py --config=configs/coco_mask_rcnn.py --workdir=runs/coco_mask_rcnn \\
        --config.data.dir=coco --config.init_from=resnet50:IMAGENET1K_V1

The folder has annotations/instances_train2017.json and instances_val2017.json, and the images in
train2017/ and val2017/. 26 epochs in batches of 16; torchvision's weights have an AP of
0.379 for boxes and 0.346 for masks.
config.init_from needs weights of ImageNet: the backbone's norms are frozen, so they keep the
statistics of these weights, and its first two stages are not trained.

Torchvision's figures are those of images one by one, each with a shape of its own: evaluate with
--config.data.shapes=exact --config.data.resampling=float32. In bfloat16:
--config.model.dtype=bfloat16. It has not been trained here.
"""

import pathlib
import runpy


def get_config():
    boxes = pathlib.Path(__file__).with_name("coco_faster_rcnn.py")
    config = runpy.run_path(str(boxes))["get_config"]()
    config.model.name = "maskrcnn_resnet50_fpn"
    config.data.masks = True
    return config
