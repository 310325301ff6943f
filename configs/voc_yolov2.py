"""YOLOv2 on Pascal VOC 2007 + 2012, with the settings of its paper.

    python train.py --config=configs/voc_yolov2.py --workdir=runs/voc_yolov2 \\
        --config.data.dir=VOCdevkit

The folder has VOC2007 and VOC2012 as they are unpacked. Training is on both trainval sets (16,551
images), testing on VOC2007's test set. 160 epochs in batches of 64, at a size that is drawn anew
every 10 batches. The paper reaches 0.768 mAP at 416 and 0.786 at 544, from a backbone that was
trained on ImageNet; this starts from random weights (or pretrained ones: config.init_from), and
has not been trained here.

What the paper adds to YOLO, one by one (its table 2), as lines of a config like this one:

    YOLO                      config.model.name = "yolov1", and no backbone, passthrough or anchors;
    batch norm                config.model.norm = "batch_norm"
    high-resolution classif.  config.init_from = a run of the backbone as a classifier that was
                              tuned at 448
    convolutional             config.model.hidden = ()
    anchor boxes              config.model.name = "yolov2",
                              config.model.backbone = {"name": "extraction"},
                              config.model.passthrough = None,
                              config.detector.constrained = False and any config.anchors
    new network               config.model.backbone = {"name": "darknet19"}
    dimension priors          config.anchors from `jaxvision anchors`
    location prediction       config.detector.constrained = True
    passthrough               config.model.passthrough = 64
    multi-scale               config.data.sizes
    high-resolution detector  config.data.image_size = 544
"""

from jaxvision.cli.config import default_config
from jaxvision.data import VOC_CLASSES


def get_config():
    config = default_config("detection")
    config.steps = 41_400
    config.batch_size = 64
    config.eval_every = 1035
    config.best.metric = "mAP_VOC"

    config.model.name = "yolov2"
    config.model.backbone = {"name": "darknet19"}
    config.model.passthrough = 64
    # Darknet's yolov2-voc.cfg gives them in cells of 32 pixels.
    config.anchors = (
        (42.31, 55.41),
        (102.17, 128.3),
        (161.79, 259.17),
        (303.08, 154.9),
        (359.56, 320.23),
    )

    config.data.source = "voc"
    config.data.train_split = "VOC2007/trainval+VOC2012/trainval"
    config.data.test_split = "VOC2007/test"
    config.data.class_names = VOC_CLASSES
    config.data.validation_fraction = 0.02
    config.data.image_size = 416
    config.data.sizes = tuple(range(320, 609, 32))
    config.data.workers = 8

    config.augment.jitter = 0.3
    config.augment.flip = 0.5
    config.augment.hue = 0.1
    config.augment.saturation = 1.5
    config.augment.value = 1.5

    config.detector.constrained = True
    config.loss.prior_steps = 200  # 12,800 images

    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 5e-4
    config.optimizer.schedule.name = "step"
    config.optimizer.schedule.warmup = 0.025
    config.optimizer.schedule.milestones = (0.375, 0.5625)  # epochs 60 and 90
    return config
