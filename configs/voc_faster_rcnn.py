"""Faster R-CNN with VGG-16 on Pascal VOC 2007, with the settings of its paper.

    python train.py --config=configs/voc_faster_rcnn.py --workdir=runs/voc_faster_rcnn \\
        --config.data.dir=VOCdevkit --config.init_from=vgg16:IMAGENET1K_FEATURES

The folder has VOC2007 as it is unpacked. Training is on trainval (5,011 images), testing on test.
Regions are proposed on the map of stride 16 by anchors of three sizes and three ratios; RoIPool
takes 7x7 bins of each, for two layers of 4,096 channels. 70,000 updates of 2 images; the paper
reaches 0.699 mAP with one image at a time, in four steps of alternating training. Here both stages
are trained jointly, as in the authors' later programs. config.init_from needs Caffe's weights of
VGG-16, which take values in 0..255: torchvision's VGG16_Weights.IMAGENET1K_FEATURES. Its
convolutions alone are used; for the layers fc6 and fc7 as well, give weights of the whole network
and `config.init_key_map`. The first two stages are not trained. It has not been trained here.
"""

from jaxvision.cli.config import default_config
from jaxvision.data import VOC_CLASSES


def get_config():
    config = default_config("detection")
    config.steps = 70_000
    config.batch_size = 2
    config.eval_every = 5000
    config.best.metric = "mAP_VOC"

    config.model.name = "fasterrcnn_vgg16"
    config.detector.trainable_backbone_layers = 3
    config.detector.box_batch_size_per_image = 128

    config.data.source = "voc"
    config.data.train_split = "VOC2007/trainval"
    config.data.test_split = "VOC2007/test"
    config.data.class_names = VOC_CLASSES
    config.data.validation_fraction = 0.02
    config.data.mean = (0.48235, 0.45882, 0.40784)
    config.data.std = (1 / 255, 1 / 255, 1 / 255)
    config.data.resize = "shorter_side"
    config.data.shorter_side = 600
    config.data.longer_side = 1000
    config.data.shapes = "buckets"
    config.data.workers = 8

    config.augment.preset = "hflip"

    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 5e-4
    config.optimizer.schedule.name = "step"
    config.optimizer.schedule.milestones = (0.7143,)  # 50,000 updates
    return config
