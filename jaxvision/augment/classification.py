"""Mixup and CutMix of an image and its label with another example, on the device.

An example is a `ClassificationBatch` without the batch axis: an image [H, W, C] in 0..255, a label
i32[] or a distribution over the classes f32[K], and a weight.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from jaxvision.augment.compose import take_partners
from jaxvision.augment.options import check_whole
from jaxvision.augment.sampling import inside_extent
from jaxvision.core import ClassificationBatch, OptionError, check_array, check_range


@dataclass(frozen=True)
class ClassMixup:
    """Applies mixup or CutMix to an example and its first partner, each with a probability.

    Mixup returns s times the first image plus 1 - s times the second one, with s drawn from
    Beta(mixup_alpha, mixup_alpha); Zhang et al. 2018 ("mixup: beyond empirical risk minimization"),
    equation 2, whose alpha for ImageNet is 0.1 to 0.4.

    CutMix replaces a box of the first image by the second image. With t drawn from
    Beta(cutmix_alpha, cutmix_alpha), the box reaches floor(sqrt(1 - t) / 2 times the side) to
    either side of a pixel's corner, which is uniform within the image, and is clipped at the
    borders. Here s is the fraction of the first image that is left; Yun et al. 2019 ("CutMix"),
    section 3.1 and algorithm A1.

    For examples with labels q1 and q2 as distributions and weights w1 and w2, the result has the
    weight w = s w1 + (1 - s) w2 and the label (s w1 q1 + (1 - s) w2 q2) / w. Its loss is then the
    sum of the losses with both labels, weighted by s w1 and (1 - s) w2. For equal weights the label
    is s q1 + (1 - s) q2, as in the papers.

    Attributes:
      num_classes: K, at least 1.
      mixup: probability of mixup.
      cutmix: probability of CutMix; the sum of both is at most 1.
      mixup_alpha: more than 0; a larger value gives s closer to 1/2.
      cutmix_alpha: more than 0; 1 makes t uniform.
    """

    num_classes: int
    mixup: float = 0.0
    cutmix: float = 0.0
    mixup_alpha: float = 0.2
    cutmix_alpha: float = 1.0
    partners: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_whole("num_classes", self.num_classes, least=1)
        for name in ("mixup", "cutmix"):
            check_range(name, getattr(self, name), least=0, most=1)
        if self.mixup + self.cutmix > 1:
            raise OptionError(
                "cutmix",
                f"cutmix is {self.cutmix} and mixup is {self.mixup}: give a sum of at most 1",
            )
        for name in ("mixup_alpha", "cutmix_alpha"):
            check_range(name, getattr(self, name), more_than=0, less_than=math.inf)

    def __call__(self, key: Array, example: ClassificationBatch) -> ClassificationBatch:
        """Mixes an example.

        Args:
          key: key[].
          example: an example, as described above, with at least one partner, which is removed.
        Returns:
          the example. Image and label, f32[K], are float32, even if the example is not mixed. If it
          is mixed, its extent is the larger one along each side, and where only one of the images
          is, the other one counts as grey (127).
        Raises:
          InputError: there is no partner.
        """
        taken, left = take_partners(example, self.partners, "ClassMixup")
        partner = jax.tree.map(lambda x: x[0], taken)
        image, label, weight = _parts(example, self.num_classes)
        other, other_label, other_weight = _parts(
            partner, self.num_classes, "partners.", image.shape
        )

        choice_key, share_key, box_key = jax.random.split(key, 3)
        choice = jax.random.uniform(choice_key)
        is_cut, is_mixed = choice < self.cutmix, choice < self.cutmix + self.mixup
        alpha = jnp.where(is_cut, self.cutmix_alpha, self.mixup_alpha)
        share = jax.random.beta(share_key, alpha, alpha).astype(jnp.float32)
        kept_by_box = _left_by_box(box_key, share, *image.shape[:2])
        share = jnp.where(is_cut, kept_by_box.mean(), jnp.where(is_mixed, share, 1))
        kept = jnp.where(is_cut, kept_by_box[:, :, None], share)

        ours, theirs = share * weight, (1 - share) * other_weight
        both = ours + theirs
        # If both weights are 0, the label has no effect.
        part = jnp.where(both > 0, ours / jnp.where(both > 0, both, 1), share)
        extent = example.extent
        if extent is not None:
            extent = jnp.where(is_mixed, jnp.maximum(extent, partner.extent), extent)
        return example.replace(
            image=kept * image + (1 - kept) * other,
            label=part * label + (1 - part) * other_label,
            weight=both,
            partners=left,
            extent=extent,
        )


def _parts(
    example: ClassificationBatch,
    num_classes: int,
    prefix: str = "",
    shape: tuple[int | str, ...] = ("H", "W", "C"),
) -> tuple[Array, Array, Array]:
    """Returns the image, the label as a distribution, and the weight, in float32."""
    image = check_array(f"{prefix}image", example.image, shape, "number").astype(jnp.float32)
    if example.extent is not None:
        image = inside_extent(image, example.extent)
    weight = check_array(f"{prefix}weight", example.weight, (), "number").astype(jnp.float32)
    if jnp.ndim(example.label):
        label = check_array(f"{prefix}label", example.label, (num_classes,)).astype(jnp.float32)
    else:
        number = check_array(f"{prefix}label", example.label, (), "int")
        label = jax.nn.one_hot(number, num_classes, dtype=jnp.float32)
    return image, label, weight


def _left_by_box(key: Array, share: Array, height: int, width: int) -> Array:
    """Returns f32[H, W]: 0 in a random box with about 1 - share of the area, 1 elsewhere."""
    sides = jnp.array([height, width])
    centre = jax.random.randint(key, (2,), 0, sides)
    half = jnp.floor(jnp.sqrt(1 - share) / 2 * sides).astype(jnp.int32)
    begin, end = centre - half, centre + half
    rows, columns = jnp.arange(height), jnp.arange(width)
    in_rows = (rows >= begin[0]) & (rows < end[0])
    in_columns = (columns >= begin[1]) & (columns < end[1])
    return 1 - (in_rows[:, None] & in_columns[None]).astype(jnp.float32)
