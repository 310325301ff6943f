"""U-Net on a folder of your own: images, and masks of the same names.

    python train.py --config=configs/folder_unet.py --workdir=runs/mine \\
        --config.data.dir=mine --config.data.class_names='("background", "cell", "border")'

The folder has images/train, images/test, masks/train and masks/test. The mask of
images/train/NAME.jpg is masks/train/NAME.png, of the same size, palette or grey: 0 is the first
class, 1 the second, ...; 255 does not count. Elastic deformation, as in the paper, makes much of
few images. Images are stretched to 256x256; for microscopy without any resizing set
config.data.resize to None and config.data.image_size to that of the images: `jaxvision predict`
then takes images of any size, tile by tile.

For one class without a background: config.loss.name = "binary_cross_entropy", with two names.
For a GPU; what it costs and reaches depends on the data.
"""

from jaxvision.cli.config import default_config


def get_config():
    config = default_config("segmentation")
    config.steps = 5000
    config.batch_size = 8
    config.eval_every = 250

    config.model.name = "unet"

    config.data.source = "folder"
    config.data.class_names = ("background", "object")
    config.data.image_size = 256
    config.data.resize = "stretch"

    config.augment.scale = (0.8, 1.25)
    config.augment.translate = 0.1
    config.augment.elastic = 10.0
    config.augment.flip = 0.5
    config.augment.value = 1.25

    config.loss.dice = 1.0

    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 1e-4
    config.optimizer.schedule.name = "cosine"
    config.optimizer.schedule.warmup = 0.05
    return config
