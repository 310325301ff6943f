"""What every public operator promises: no NaN, the same however it is run, errors that help."""

import inspect
from functools import partial

import jax
import numpy as np
import pytest

from jaxvision import ops
from tests.makers import COORDINATE, mask, whole
from tests.makers import extreme_boxes as boxes
from tests.makers import extreme_numbers as numbers
from tests.marks import long_but, slow_but


def sides(*shape):
    """A maker of f32[*shape, 2]: widths and heights, 0 and 1e6 among them."""
    return numbers(*shape, 2, least=0, most=COORDINATE)


def images(*shape):
    return numbers(*shape, least=-COORDINATE, most=COORDINATE)


TWO_BOXES = {"boxes1": boxes(6), "boxes2": boxes(5)}
COUNTERPARTS = {"boxes1": boxes(6), "boxes2": boxes(6)}
SCORED = {"boxes": boxes(12), "scores": numbers(12)}
WORD_TREE = ops.WordTree(tuple("abcdefghi"), (-1, -1, 0, 0, 0, 1, 3, 3, 7))
# Function -> (makers of its arrays, by name and in order; its options).
CASES = {
    "box_area": ({"boxes": boxes(6)}, {}),
    "box_convert": ({"boxes": boxes(6)}, {"in_fmt": "cxcywh", "out_fmt": "xywh"}),
    "clip_boxes_to_image": ({"boxes": boxes(6), "size": numbers(2, least=0, most=1e6)}, {}),
    "box_iou": (TWO_BOXES, {}),
    "generalized_box_iou": (TWO_BOXES, {}),
    "distance_box_iou": (TWO_BOXES, {}),
    "complete_box_iou": (TWO_BOXES, {}),
    "elementwise_box_iou": (COUNTERPARTS, {}),
    "elementwise_generalized_box_iou": (COUNTERPARTS, {}),
    "elementwise_distance_box_iou": (COUNTERPARTS, {}),
    "elementwise_complete_box_iou": (COUNTERPARTS, {}),
    "nms": (SCORED, {"iou_threshold": 0.5, "max_detections": 8}),
    "batched_nms": (
        {**SCORED, "classes": whole(12)},
        {"iou_threshold": 0.5, "max_detections": 8},
    ),
    "multiclass_nms": (
        {"boxes": boxes(6), "scores": numbers(6, 3)},
        {"iou_threshold": 0.5, "max_detections": 8},
    ),
    "per_class_nms": (
        {"boxes": boxes(6), "scores": numbers(6, 3)},
        {"iou_threshold": 0.5, "max_detections": 8, "max_per_class": 2},
    ),
    "soft_nms": (SCORED, {"max_detections": 8}),
    "encode_boxes": ({"boxes": boxes(6), "anchors": boxes(6)}, {}),
    "decode_boxes": ({"deltas": numbers(6, 4), "anchors": boxes(6)}, {}),
    "encode_distances": ({"boxes": boxes(6), "points": sides(6)}, {}),
    "decode_distances": ({"distances": numbers(6, 4), "points": sides(6)}, {}),
    "cell_index": ({"boxes": boxes(6)}, {"grid_size": (7, 5), "image_size": (448, 448)}),
    "encode_yolov1": ({"boxes": boxes(6)}, {"grid_size": (7, 5), "image_size": (448, 448)}),
    "decode_yolov1": ({"coordinates": numbers(3, 4, 2, 4)}, {"image_size": (448, 448)}),
    "encode_yolo": (
        {"boxes": boxes(6), "anchors": sides(6), "rows": whole(6, most=9), "columns": whole(6)},
        {"stride": 32},
    ),
    "decode_yolo": ({"logits": numbers(3, 4, 2, 4), "anchors": sides(2)}, {"stride": 32}),
    "anchor_shapes": ({}, {"scales": (1, 1e6), "aspect_ratios": (1e-3, 2)}),
    "map_strides": ({}, {"image_size": (800, 1088), "feature_sizes": ((7, 9),)}),
    "fcos_points": ({}, {"feature_sizes": ((8, 6), (4, 3), (2, 2), (1, 1), (1, 1))}),
    "grid_anchors": ({"shapes": sides(3)}, {"feature_size": (3, 4), "stride": 16}),
    "rpn_anchors": ({}, {"feature_sizes": ((8, 6), (4, 3), (2, 2), (1, 1), (1, 1))}),
    "retinanet_anchors": ({}, {"feature_sizes": ((8, 6), (4, 3), (2, 2), (1, 1), (1, 1))}),
    "ssd_scales": ({}, {"num_maps": 6}),
    "ssd_default_boxes": ({}, ops.SSD300),
    "shape_iou": ({"shapes1": sides(4), "shapes2": sides(3)}, {}),
    "average_iou": ({"shapes": sides(4), "anchors": sides(3), "mask": mask(4)}, {}),
    "kmeans_anchors": (
        {"key": lambda rng: jax.random.key(0), "shapes": sides(9), "mask": mask(9)},
        {"k": 3},
    ),
    "match_anchors": (
        {"iou": numbers(7, 3, least=0, most=1), "gt_mask": mask(3)},
        {"high_threshold": 0.7, "low_threshold": 0.3, "forced": "bipartite"},
    ),
    "match_boxes": (
        {"anchors": boxes(9), "boxes": boxes(11), "gt_mask": mask(11)},
        {"high_threshold": 0.5, "low_threshold": 0.3, "forced": "all_ties"},
    ),
    "match_points": (
        {"points": sides(7), "sides": numbers(7, least=1), "boxes": boxes(3), "gt_mask": mask(3)},
        {},
    ),
    "yolov1_responsible": ({"predicted": boxes(5, 2), "boxes": boxes(5)}, {}),
    "best_anchor": ({"shapes": sides(4), "anchors": sides(3)}, {}),
    "assign_to_grid": (
        {
            "rows": whole(5, least=-9, most=9),
            "columns": whole(5),
            "anchors": whole(5),
            "gt_mask": mask(5),
        },
        {"grid_size": (3, 4), "num_anchors": 2},
    ),
    "sample_balanced": (
        {"key": lambda rng: jax.random.key(0), "positive": mask(9), "negative": mask(9)},
        {"size": 4, "positive_fraction": 0.5},
    ),
    "generate_proposals": (
        {
            "objectness": lambda rng: [numbers(6)(rng), numbers(3)(rng)],
            "deltas": lambda rng: [numbers(6, 4)(rng), numbers(3, 4)(rng)],
            "anchors": lambda rng: [boxes(6)(rng), boxes(3)(rng)],
            "image_size": numbers(2, least=0, most=1e6),
        },
        {"pre_nms_top_n": 4},
    ),
    "sample_proposals": (
        {
            "key": lambda rng: jax.random.key(0),
            "proposals": boxes(6),
            "proposal_mask": mask(6),
            "boxes": boxes(3),
            "box_mask": mask(3),
        },
        {"size": 4},
    ),
    "postprocess_detections": (
        {
            "class_logits": numbers(6, 3),
            "box_regression": numbers(6, 3, 4),
            "proposals": boxes(6),
            "proposal_mask": mask(6),
            "image_size": numbers(2, least=0, most=1e6),
        },
        {"detections_per_img": 5},
    ),
    "paint_masks": ({"masks": whole(3, 4, 4, most=255), "frames": boxes(3)}, {"size": (7, 6)}),
    "mean_in_cells": ({"x": images(7, 6), "frames": boxes(3)}, {"cells": 4}),
    "clip_masks": (
        {"masks": whole(3, 4, 4, most=255), "frames": boxes(3), "window": numbers(4)},
        {},
    ),
    "mask_to_indices": ({"mask": mask(9)}, {"size": 4}),
    "mine_hard_negatives": ({"loss": numbers(9), "positive": mask(9), "negative": mask(9)}, {}),
    "max_pool": ({"x": images(2, 7, 6, 3)}, {"kernel_size": 3, "stride": 2, "padding": 1}),
    "max_pool_with_indices": ({"x": images(2, 7, 6, 3)}, {"kernel_size": 2}),
    "max_unpool": (
        {"x": images(2, 3, 3, 2), "indices": whole(2, 3, 3, 2, least=-5, most=99)},
        {"output_size": (7, 6)},
    ),
    "avg_pool": ({"x": images(2, 7, 6, 3)}, {"kernel_size": 3, "padding": 1}),
    "adaptive_avg_pool": ({"x": images(2, 7, 6, 3)}, {"output_size": (3, 9)}),
    "global_avg_pool": ({"x": images(2, 7, 6, 3)}, {}),
    "roi_pool": (
        {"features": images(7, 6, 3), "boxes": boxes(5)},
        {"output_size": (2, 3), "spatial_scale": 1 / 16},
    ),
    "roi_align": (
        {"features": images(7, 6, 3), "boxes": boxes(5)},
        {"output_size": (2, 3), "spatial_scale": 1 / 16, "aligned": False},
    ),
    "assign_levels": ({"boxes": boxes(9)}, {"min_level": 2, "max_level": 5}),
    "multilevel_roi_align": (
        {"features": lambda rng: [images(7, 6, 3)(rng), images(4, 3, 3)(rng)], "boxes": boxes(5)},
        {"output_size": (2, 3), "spatial_scales": (1 / 8, 1 / 16)},
    ),
    "space_to_depth": ({"x": images(4, 6, 4)}, {"block_size": 2, "order": "darknet"}),
    "depth_to_space": ({"x": images(2, 3, 16)}, {"block_size": 2}),
    "channel_shuffle": ({"x": images(2, 3, 6)}, {"groups": 2}),
    "gaussian_heatmaps": ({"points": sides(3)}, {"size": (7, 6), "sigma": 1.5}),
    "heatmap_argmax": ({"heatmaps": images(7, 6, 3)}, {}),
    "keypoint_cells": ({"keypoints": numbers(6, 3, 3), "boxes": boxes(6)}, {"size": 7}),
    "heatmaps_to_keypoints": (
        {"heatmaps": numbers(6, 7, 5, 3), "boxes": boxes(6)},
        {"image_size": (40, 60)},
    ),
    "soft_argmax": ({"logits": images(7, 6, 3)}, {"radius": 2}),
    "nearest_neighbors": (
        {"queries": numbers(5, 3), "index": numbers(7, 3)},
        {"k": 2, "metric": "l2", "block": 3},
    ),
    "majority_vote": ({"labels": whole(4, 5)}, {}),
    "batch_norm": ({"x": images(2, 3, 6), "scale": numbers(6), "bias": numbers(6)}, {}),
    "local_response_norm": ({"x": images(2, 3, 6)}, {}),
    "resize_bilinear": ({"x": images(7, 6, 3)}, {"size": (4, 9)}),
    "resize_nearest": ({"x": images(7, 6, 3)}, {"size": (4, 9)}),
    "resize_bicubic": ({"x": images(7, 6, 3)}, {"size": (4, 9)}),
    "conv2d": (
        {"x": images(2, 7, 6, 4), "kernel": images(3, 3, 1, 4)},
        {"stride": 2, "padding": 1, "groups": 4},
    ),
    "conv_transpose2d": (
        {"x": images(2, 7, 6, 4), "kernel": images(2, 2, 4, 3)},
        {"stride": 2},
    ),
    "word_tree_log_softmax": ({"logits": numbers(4, 9)}, {"tree": WORD_TREE}),
    "word_tree_log_probabilities": ({"logits": numbers(4, 9)}, {"tree": WORD_TREE}),
    "word_tree_log_probability": (
        {"logits": numbers(4, 9), "labels": whole(4, most=8)},
        {"tree": WORD_TREE},
    ),
    "word_tree_top_node": ({"logits": numbers(4, 9)}, {"tree": WORD_TREE, "threshold": 0.3}),
}
# Takes what JAX's function of that name takes, and leaves the checks to it.
LIBRARY_SIGNATURES = {"conv_general_dilated"}
# Changes how functions are traced, and takes no arguments: see test_derivatives.py.
CONTEXTS = {"library_forms"}
# On the host: see test_masks.py, test_mask_pasting.py, test_run_lengths.py and test_word_tree.py.
HOST_ONLY = {
    "MaskTable",
    "Polygons",
    "RunLengths",
    "WordTree",
    "compress_counts",
    "crop_mask",
    "decode_mask",
    "decompress_counts",
    "decompress_masks",
    "encode_mask",
    "encode_polygons",
    "mask_area",
    "mask_to_box",
    "paired_run_length_iou",
    "paste_masks",
    "paste_run_lengths",
    "polygons_have_pixels",
    "run_length_iou",
}
# Plain arithmetic of where an image lies, which checks nothing: see test_placement.py.
PLACEMENT = {
    "Placement",
    "center_crop",
    "letterbox",
    "place_mask",
    "stretch",
    "to_input",
    "to_original",
}
ANY_DTYPE = {"resize_nearest"}
# Small programs of every kind; the others are slow tests.
QUICK = [
    "anchor_shapes",
    "assign_to_grid",
    "avg_pool",
    "batch_norm",
    "best_anchor",
    "box_convert",
    "cell_index",
    "channel_shuffle",
    "clip_boxes_to_image",
    "complete_box_iou",
    "conv2d",
    "conv_transpose2d",
    "decode_boxes",
    "decode_yolo",
    "encode_boxes",
    "encode_yolo",
    "gaussian_heatmaps",
    "grid_anchors",
    "local_response_norm",
    "majority_vote",
    "mask_to_indices",
    "max_pool",
    "max_unpool",
    "mine_hard_negatives",
    "resize_bilinear",
    "rpn_anchors",
    "ssd_default_boxes",
]
EAGER_QUICK = ["box_iou"]
# Those with a form for each platform, and one of each further file.
EAGER_SLOW = [
    "batch_norm",
    "conv2d",
    "conv_transpose2d",
    "encode_boxes",
    "max_pool_with_indices",
    "nms",
    "resize_bicubic",
    "space_to_depth",
]
NO_ARRAYS = {name for name, (makers, _) in CASES.items() if not makers}


def arrays_of(name, seed):
    makers, _ = CASES[name]
    rng = np.random.default_rng(seed)
    return [make(rng) for make in makers.values()]


def bound(name):
    return partial(getattr(ops, name), **CASES[name][1])


def test_every_public_operator_is_in_the_table():
    functions = {name for name in ops.__all__ if callable(getattr(ops, name))}
    assert functions == set(CASES) | LIBRARY_SIGNATURES | CONTEXTS | HOST_ONLY | PLACEMENT


@pytest.mark.parametrize("name", CASES)
def test_arrays_come_first_and_the_docstring_says_what_is_returned(name):
    function = getattr(ops, name)
    makers, _ = CASES[name]
    positional = [
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is not parameter.KEYWORD_ONLY
    ]
    # Arrays come first; a few options may follow by position, as in torch.
    assert positional[: len(makers)] == list(makers) or not makers
    doc = inspect.getdoc(function)
    if not name.startswith("elementwise_"):  # these refer to the function for pairs
        assert "Returns:" in doc


@pytest.mark.parametrize("name", sorted(HOST_ONLY))
def test_the_docstring_of_a_host_function_says_what_is_returned(name):
    function = getattr(ops, name)
    section = "Attributes:" if inspect.isclass(function) else "Returns:"
    assert section in inspect.getdoc(function)


DEVICES, EXAMPLES = 4, 5


def batch_of(name):
    """The arrays of an operator for each example on each device."""
    count = DEVICES * EXAMPLES
    examples = [arrays_of(name, seed) for seed in range(count)]
    if "key" in CASES[name][0]:
        examples = [arrays[1:] for arrays in examples]
    batch = jax.tree.map(lambda *x: np.stack(x).reshape(DEVICES, EXAMPLES, *x[0].shape), *examples)
    if "key" in CASES[name][0]:
        batch.insert(0, jax.random.split(jax.random.key(0), (DEVICES, EXAMPLES)))
    return batch


def check_close(actual, expected):
    """Equal integers; numbers that differ by rounding, beside the largest of them."""

    def check(a, b):
        largest = np.abs(b).max(initial=0, where=np.isfinite(b)) if b.dtype.kind == "f" else 0
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * largest)

    jax.tree.map(check, actual, expected)


@pytest.mark.parametrize("name", slow_but(CASES, QUICK))
def test_the_extremes_give_no_nan_and_the_same_alone_under_vmap_and_on_each_device(name):
    if name in NO_ARRAYS:
        results = jax.device_get(jax.jit(bound(name))())
    else:

        def run(*batch):
            first = jax.tree.map(lambda x: x[0], batch)
            return bound(name)(*first), jax.vmap(bound(name))(*batch)

        alone, results = jax.device_get(jax.pmap(run)(*batch_of(name)))
        check_close(alone, jax.tree.map(lambda x: x[:, 0], results))
    for result in jax.tree.leaves(results):
        assert not np.isnan(result).any()


@pytest.mark.parametrize("name", long_but(CASES, EAGER_QUICK, EAGER_SLOW))
def test_operation_by_operation_it_is_the_same_as_compiled(name):
    arrays = arrays_of(name, 0)
    check_close(jax.device_get(bound(name)(*arrays)), jax.device_get(jax.jit(bound(name))(*arrays)))


WRONG = [
    (name, argument)
    for name, (makers, _) in CASES.items()
    for argument in makers
    if argument != "key"
]


@pytest.mark.parametrize(("name", "argument"), WRONG)
def test_a_wrong_shape_or_dtype_names_the_argument(name, argument):
    arrays = arrays_of(name, 0)
    position = list(CASES[name][0]).index(argument)
    given = arrays[position]
    several = isinstance(given, list)
    right = np.asarray(given[0] if several else given)
    wrong_dtype = right.astype("f4") if right.dtype == bool else right > 0
    message = rf"^{argument}\[0\] is " if several else rf"^{argument} is "
    for wrong in [right.ravel()[0], wrong_dtype][: 1 if name in ANY_DTYPE else 2]:
        arrays[position] = [wrong, *given[1:]] if several else wrong
        with pytest.raises(AssertionError, match=message):
            jax.eval_shape(bound(name), *arrays)
