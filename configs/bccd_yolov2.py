"""YOLOv2 on the BCCD set: red and white cells and platelets on photographs of blood.

    git clone https://github.com/Shenggan/BCCD_Dataset
    python train.py --config=configs/bccd_yolov2.py --workdir=runs/bccd_yolov2 \\
        --config.data.dir=BCCD_Dataset/BCCD

Trains on trainval (292 photographs of 640x480) from random weights, at sizes that change every 10
batches, and tests on test (72). For a GPU; not run in full yet: neither cost nor metric are known.
"""

from jaxvision.cli.config import default_config


def get_config():
    config = default_config("detection")
    config.steps = 4000
    config.batch_size = 16
    config.eval_every = 500
    config.best.metric = "AP50"

    config.model.name = "yolov2"
    # jaxvision anchors --data=BCCD_Dataset/BCCD --split=trainval --k=5 --resize=stretch
    config.anchors = ((26.4, 34.2), (65.4, 72.4), (62.5, 91.4), (78.0, 96.1), (140.3, 168.9))

    config.data.source = "voc"
    config.data.train_split = "trainval"
    config.data.test_split = "test"
    config.data.class_names = ("Platelets", "RBC", "WBC")
    config.data.validation_fraction = 0.0
    config.data.image_size = 416
    config.data.resize = "stretch"
    config.data.sizes = tuple(range(320, 545, 32))
    config.data.cache = True
    config.data.threads = 8

    config.augment.jitter = 0.2
    config.augment.flip = 0.5
    config.augment.hue = 0.05
    config.augment.saturation = 1.5
    config.augment.value = 1.5

    config.loss.prior_steps = 200

    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 0.05
    config.optimizer.schedule.name = "one_cycle"
    config.optimizer.schedule.warmup = 0.1
    return config
