"""The mask head of Mask R-CNN, one sample of one bin of one proposal at a time."""

import numpy as np

from tests.reference.losses_detection import _binary_cross_entropy, _per
from tests.reference.ops.masks import paint_masks
from tests.reference.ops.roi import multilevel_roi_align


def mask_targets(
    masks, proposals, matches, mask_frames=None, size=None, *, output_size=28, sampling_ratio=-1
):
    if mask_frames is not None:
        masks = paint_masks(masks, mask_frames, size=tuple(size))
    elif size is not None:
        masks = masks[:, : size[0], : size[1]]
    result = np.zeros((len(proposals), output_size, output_size))
    for n, g in enumerate(matches):
        if g >= 0:
            (inside,) = multilevel_roi_align(
                [masks[g][..., None]],
                proposals[n : n + 1],
                [0],
                output_size=(output_size, output_size),
                spatial_scales=[1.0],
                sampling_ratio=sampling_ratio,
                aligned=False,
            )
            result[n] = inside[..., 0]
    return result


def mask_rcnn_loss(
    mask_logits,
    proposals,
    matches,
    labels,
    masks,
    mask_frames=None,
    size=None,
    *,
    sampling_ratio=-1,
    per="batch",
):
    targets = mask_targets(
        masks,
        proposals,
        matches,
        mask_frames,
        size,
        output_size=mask_logits.shape[1],
        sampling_ratio=sampling_ratio,
    )
    total = count = 0.0
    for n, g in enumerate(matches):
        if g < 0:
            continue
        for place in np.ndindex(targets.shape[1:]):
            x = float(mask_logits[(n, *place, labels[g])])
            total += _binary_cross_entropy(x, float(targets[(n, *place)]))
            count += 1
    return _per(per, count, mask=total)
