"""The augmentations of detection, as keys of a config."""

from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from jaxvision import augment as aug
from jaxvision.cli.kinds.augmentation import GeometryAndColor, wanted_of
from jaxvision.core import OptionError, check_range, option_errors


@dataclass(frozen=True)
class DetectionAugment(GeometryAndColor):
    """Augmentation of detection.

    Attributes:
      preset: all augmentations of a recipe: "hflip", "ssd", "ssdlite", "lsj" or "multiscale", which
        belongs to data.sizes; "": the single options. copy_paste may come after it.
      mosaic: probability that four images are put together around a random centre.
      mosaic_offset: where in its image each of them is cut: "uniform", anywhere, or "cut", at the
        corner that touches the centre, as in Darknet.
      mosaic_bound: whether boxes end at the border of their image in a mosaic; in Darknet they do
        not.
      jitter_first: whether jitter comes before mosaic and mixup, on each of the images, as in
        Darknet.
      mixup: probability that two images are blended.
      mixup_alpha: of mixup's beta distribution.
      copy_paste: probability that objects of another image are pasted along their masks, after both
        images were moved and mirrored; needs data.masks. Objects beneath stay as far as they are
        seen: least_visible and least_side are not applied.
      jitter: Darknet's crop: share of the side by which each border moves at most.
      scale_jitter: large-scale jitter: least and largest factor, such as (0.1, 2.0); (): none.
      zoom_out: SSD's zoom-out: probability that the image is shown on a larger canvas.
      iou_crop: SSD's crop around some of the boxes.
      distort: SSD's photometric distortion: probability of each of its changes.
      least_visible: share of a box that must be left for it to stay.
      least_side: pixels of its shorter side that must be left.
      swap: for each keypoint the index of its mirrored counterpart, such as those of left and right
        eyes, for flips; needed with data.keypoints.
    """

    preset: str = ""
    mosaic: float = 0.0
    mosaic_offset: str = "uniform"
    mosaic_bound: bool = True
    jitter_first: bool = False
    mixup: float = 0.0
    mixup_alpha: float = 1.5
    copy_paste: float = 0.0
    jitter: float = 0.0
    scale_jitter: tuple[float, ...] = ()
    zoom_out: float = 0.0
    iou_crop: bool = False
    distort: float = 0.0
    least_visible: float = 0.25
    least_side: float = 1.0
    swap: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("mosaic", "mixup", "copy_paste", "zoom_out", "distort"):
            check_range(name, getattr(self, name), least=0, most=1)
        changed = [
            field.name
            for field in fields(self)
            if field.name not in ("preset", "swap", "copy_paste")
            and getattr(self, field.name) != field.default
        ]
        if self.preset and changed:
            raise OptionError(
                "preset",
                f"preset is {self.preset!r}, which has all augmentations, but {changed[0]} is "
                f"{getattr(self, changed[0])!r}: leave one of them out",
            )

    def steps(self) -> tuple[Any, ...]:
        """The augmentations, in their order."""
        copy_paste = self.copy_paste, partial(aug.CopyPaste, self.copy_paste)
        if self.preset:
            with option_errors("preset"):
                preset = aug.detection_preset(self.preset, swap=self.swap)
            return (*preset, *wanted_of(copy_paste))
        rule = {"least_visible": self.least_visible, "least_side": self.least_side}
        zoom_out = None
        if self.zoom_out:
            zoom_out = aug.RandomZoomOut(self.zoom_out, fill=aug.MEAN_COLOR)
        jitter = partial(aug.JitterCrop, jitter=self.jitter, **rule)
        mosaic = partial(
            aug.Mosaic,
            probability=self.mosaic,
            offset=self.mosaic_offset,
            bound=self.mosaic_bound,
            **rule,
        )
        return wanted_of(
            (self.distort, partial(aug.RandomPhotometricDistort, probability=self.distort)),
            (self.jitter_first and self.jitter, jitter),
            (self.mosaic, mosaic),
            (self.mixup, partial(aug.Mixup, probability=self.mixup, alpha=self.mixup_alpha)),
            (not self.jitter_first and self.jitter, jitter),
            (self.scale_jitter, partial(aug.ScaleJitter, self.scale_jitter, **rule)),
            (self.zoom_out and not self.iou_crop, lambda: zoom_out),
            (self.iou_crop, partial(aug.RandomIoUCrop, zoom_out=zoom_out)),
            self.move(**rule),
            self.mirror(swap=self.swap),
            copy_paste,
            self.color(),
        )
