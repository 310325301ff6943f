"""ResNet-50 on ImageNet, as Goyal et al. 2017 trained it, at a batch of 256.

"Accurate, large minibatch SGD: training ImageNet in 1 hour", section 5.1.

    python train.py --config=configs/imagenet_resnet50.py --config.data.dir=DIR

DIR has a folder for each class in train/ and val/, as ImageNet's archives give after they are
unpacked and the validation images sorted; or `--config.data.source=tfds
--config.data.name=imagenet2012 --config.data.test_split=validation`, prepared as ArrayRecord.

450,000 steps, 90 epochs. The paper reached an error of 23.6 %. Not run in full yet: neither cost
nor metric are known.
"""

from jaxvision.cli.config import default_config


def get_config():
    config = default_config()
    config.batch_size = 256
    config.steps = 450_000
    config.eval_every = 5_000

    config.model.name = "resnet50"
    config.model.zero_init_residual = True
    config.data.source = "folder"
    config.data.test_split = "val"
    config.data.validation_fraction = 0.01
    config.data.num_classes = 1000
    config.data.channels = 3
    config.data.image_size = 224
    config.data.shorter_side = 256
    config.data.resize = "crop"
    config.data.mean = (0.485, 0.456, 0.406)
    config.data.std = (0.229, 0.224, 0.225)
    config.data.workers = 16
    config.augment.crop_scale = (0.08, 1.0)
    config.augment.flip = True

    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.1
    config.optimizer.momentum = 0.9
    config.optimizer.nesterov = True
    config.optimizer.weight_decay = 1e-4
    config.optimizer.schedule.name = "step"
    config.optimizer.schedule.milestones = (1 / 3, 2 / 3, 8 / 9)  # epochs 30, 60 and 80 of 90
    config.optimizer.schedule.warmup = 5 / 90
    return config
