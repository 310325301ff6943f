"""RetinaNet on the BCCD set: red and white cells and platelets on photographs of blood.

    git clone https://github.com/Shenggan/BCCD_Dataset
    python train.py --config=configs/bccd_retinanet.py --workdir=runs/bccd_retinanet \\
        --config.data.dir=BCCD_Dataset/BCCD

A ResNet-18 and a pyramid of 64 channels. Trains on trainval (292 photographs of 640x480, resized to
416x312) from random weights, and tests on test (72). For a GPU; it has not been run in full. With
images of 256 pixels, 400 steps of 4 and no augmentation it overfits 16 photographs to AP50 0.994
(`.ci/long tests/test_training.py -k blood`, 6 min 16 s on 2 cores of an AMD EPYC beside other
programs, 2026-12-02).
"""

from jaxvision.cli.config import default_config


def get_config():
    config = default_config("detection")
    config.steps = 4000
    config.batch_size = 16
    config.eval_every = 500
    config.best.metric = "AP50"

    config.model.name = "retinanet"
    config.model.backbone = "resnet18"
    config.model.p6_from = None  # nothing is larger than the anchors of c5
    config.model.features = 64
    config.model.depth = 2
    config.model.head_norm = "group_norm"
    # Platelets have about 23 pixels, red cells 66, white ones 128.
    config.detector.sizes = (22, 48, 100)
    config.detect.iou_threshold = 0.6  # cells overlap

    config.data.source = "voc"
    config.data.train_split = "trainval"
    config.data.test_split = "test"
    config.data.class_names = ("Platelets", "RBC", "WBC")
    config.data.validation_fraction = 0.0
    config.data.image_size = 416
    config.data.resize = "fit"
    config.data.cache = True
    config.data.threads = 8

    config.augment.flip = 0.5
    config.augment.hue = 0.05
    config.augment.saturation = 1.5
    config.augment.value = 1.5

    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 0.05
    config.optimizer.schedule.name = "one_cycle"
    config.optimizer.schedule.warmup = 0.1
    return config
