"""SRCNN 9-1-5 for three times the resolution, on the embedded photographs.

    python train.py --config=configs/photos_srcnn.py

Cost 1 min 33 s on 2 cores of an AMD EPYC that trained another network too (2026-11-22). Measured as
in the paper, it reached a PSNR of 33.10 dB and an SSIM of 0.948 on the luminance of the test
photograph, "flower"; bicubic interpolation gives 32.36 and 0.942 (2026-12-01).
"""

from jaxvision.cli.config import default_config


def get_config():
    config = default_config("restoration")
    config.steps = 4000
    config.batch_size = 16
    config.eval_every = 1000

    config.model.name = "srcnn_915"
    config.model.padding = "valid"  # as in the paper: no pixel is made of what is not there

    config.data.source = "photographs"
    config.data.validation_fraction = 0.0  # there is one photograph to train on, and one to test on
    config.data.image_size = 33
    config.data.patches = 8000
    config.data.tile = 126

    config.degradation.name = "downscale_upscale"
    config.degradation.factor = 3
    config.degradation.protocol = "srcnn"

    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule.name = "cosine"
    return config
