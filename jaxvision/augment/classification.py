"""Augmentation of an image and its class with another's on the device: pure functions, for vmap.

An example is a `ClassificationBatch` without the batch axis: an image [H, W, C] in 0..255, a label
i32[] or a distribution over the classes f32[K], and a weight; its first partner is what it is mixed
with. The result has a distribution for a label, and no partners.

The losses of both halves add up as they would have apart. With shares s and 1 - s, labels q as
distributions and weights w, the result has the weight w = s w1 + (1 - s) w2 and the label
(s w1 q1 + (1 - s) w2 q2) / w: for equal weights s q1 + (1 - s) q2, as in the papers.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array

from jaxvision.core import ClassificationBatch, InputError, check_array, check_range


def mixup_classification(
    key: Array, example: ClassificationBatch, *, num_classes: int, alpha: float = 0.2
) -> ClassificationBatch:
    """The example's image over its partner's: s times the one plus 1 - s times the other.

    Args:
      key: key[].
      example: see above.
      num_classes: K.
      alpha: the share s is drawn from Beta(alpha, alpha): more than 0; the larger, the nearer to
        1/2.
    Returns:
      The example; image and label are float32.
    Raises:
      AssertionError: a part of the example or of its partners has another shape or dtype.
      InputError: no partner, or an option out of its range.
    Source: Zhang et al. 2018 ("mixup: beyond empirical risk minimization"), equation 2; 0.1 to 0.4
      is its alpha for ImageNet.
    """
    return mixup_or_cutmix_classification(
        key, example, num_classes=num_classes, mixup=1.0, cutmix=0.0, mixup_alpha=alpha
    )


def cutmix_classification(
    key: Array, example: ClassificationBatch, *, num_classes: int, alpha: float = 1.0
) -> ClassificationBatch:
    """The example's image with a box of its partner's.

    With t from Beta(alpha, alpha), the box reaches floor(sqrt(1 - t) / 2 times the side) to either
    side of a pixel's corner, which is uniform within the image, and is cut at the borders. The
    share s is the part of the image that it leaves.

    Args:
      key: key[].
      example: see above.
      num_classes: K.
      alpha: more than 0; 1 makes t uniform.
    Returns:
      The example; image and label are float32.
    Raises:
      AssertionError: a part of the example or of its partners has another shape or dtype.
      InputError: no partner, or an option out of its range.
    Source: Yun et al. 2019 ("CutMix"), section 3.1 and algorithm A1.
    """
    return mixup_or_cutmix_classification(
        key, example, num_classes=num_classes, mixup=0.0, cutmix=1.0, cutmix_alpha=alpha
    )


def mixup_or_cutmix_classification(
    key: Array,
    example: ClassificationBatch,
    *,
    num_classes: int,
    mixup: float = 0.5,
    cutmix: float = 0.5,
    mixup_alpha: float = 0.2,
    cutmix_alpha: float = 1.0,
) -> ClassificationBatch:
    """`mixup_classification`, or `cutmix_classification`, or neither.

    Args:
      key: key[].
      example: see above.
      num_classes: K.
      mixup: probability of the one.
      cutmix: probability of the other; both together at most 1.
      mixup_alpha: see `mixup_classification`.
      cutmix_alpha: see `cutmix_classification`.
    Returns:
      The example; image and label are float32, also of what is not mixed.
    Raises:
      AssertionError: a part of the example or of its partners has another shape or dtype.
      InputError: no partner, or an option out of its range.
    """
    check_range("num_classes", num_classes, least=1)
    for name, probability in (("mixup", mixup), ("cutmix", cutmix), ("both", mixup + cutmix)):
        check_range(f"the probability of {name}", probability, least=0, most=1)
    for name, alpha in (("mixup", mixup_alpha), ("cutmix", cutmix_alpha)):
        check_range(f"alpha of {name}", alpha, more_than=0, less_than=math.inf)
    if not len(jax.tree.leaves(example.partners)):
        raise InputError(
            "mixup and cutmix take one of an example's partners, and there are none: let the "
            "loader send one with each example"
        )
    first = jax.tree.map(lambda x: x[0], example.partners)
    image, label, weight = _parts(example, num_classes)
    other, other_label, other_weight = _parts(first, num_classes, "partners.", image.shape)

    choice_key, share_key, box_key = jax.random.split(key, 3)
    choice = jax.random.uniform(choice_key)
    is_cut, is_mixed = choice < cutmix, choice < cutmix + mixup
    alpha = jnp.where(is_cut, cutmix_alpha, mixup_alpha)
    share = jax.random.beta(share_key, alpha, alpha).astype(jnp.float32)
    left = _left_by_box(box_key, share, *image.shape[:2])
    share = jnp.where(is_cut, left.mean(), jnp.where(is_mixed, share, 1))
    kept = jnp.where(is_cut, left[:, :, None], share)

    ours, theirs = share * weight, (1 - share) * other_weight
    both = ours + theirs
    # Of two that do not count, neither does the label.
    part = jnp.where(both > 0, ours / jnp.where(both > 0, both, 1), share)
    return example.replace(
        image=kept * image + (1 - kept) * other,
        label=part * label + (1 - part) * other_label,
        weight=both,
        partners=None,
    )


def _parts(
    example: ClassificationBatch,
    num_classes: int,
    prefix: str = "",
    shape: tuple[int | str, ...] = ("H", "W", "C"),
) -> tuple[Array, Array, Array]:
    """Image, label as a distribution, and weight, in float32."""
    image = check_array(f"{prefix}image", example.image, shape, "number").astype(jnp.float32)
    weight = check_array(f"{prefix}weight", example.weight, (), "number").astype(jnp.float32)
    if jnp.ndim(example.label):
        label = check_array(f"{prefix}label", example.label, (num_classes,)).astype(jnp.float32)
    else:
        number = check_array(f"{prefix}label", example.label, (), "int")
        label = jax.nn.one_hot(number, num_classes, dtype=jnp.float32)
    return image, label, weight


def _left_by_box(key: Array, share: Array, height: int, width: int) -> Array:
    """f32[H, W]: 0 in a box of about 1 - share of the area, around a random place; else 1."""
    sides = jnp.array([height, width])
    centre = jax.random.randint(key, (2,), 0, sides)
    half = jnp.floor(jnp.sqrt(1 - share) / 2 * sides).astype(jnp.int32)
    begin, end = centre - half, centre + half
    rows, columns = jnp.arange(height), jnp.arange(width)
    in_rows = (rows >= begin[0]) & (rows < end[0])
    in_columns = (columns >= begin[1]) & (columns < end[1])
    return 1 - (in_rows[:, None] & in_columns[None]).astype(jnp.float32)
