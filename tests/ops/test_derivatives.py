"""Derivatives of every operator that has some, in every mode, and one form for each platform."""

import pathlib
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import ops
from jaxvision.ops.primitives import Form, by_platform, jaxprs_in_params, multilinear
from tests.derivatives import check_derivatives
from tests.marks import long_but

PACKAGE = pathlib.Path(ops.__file__).parents[1]


def normal(*shape):
    return lambda rng: rng.normal(size=shape)


def apart(*shape):
    """No two values are near each other, so that maxima stay where they are."""
    return lambda rng: rng.permutation(np.prod(shape)).reshape(shape) / 10.0


def positive(*shape):
    return lambda rng: rng.uniform(0.5, 2, shape)


def boxes(*shape):
    """Boxes that overlap, xyxy."""

    def make(rng):
        corner = rng.uniform(1, 10, (*shape, 2))
        return np.concatenate([corner, corner + rng.uniform(8, 20, (*shape, 2))], axis=-1)

    return make


def centred(*shape):
    """Boxes that overlap, their centres and sides."""
    return lambda rng: np.concatenate(
        [rng.uniform(10, 20, (*shape, 2)), rng.uniform(8, 20, (*shape, 2))], axis=-1
    )


TWO = (boxes(3), boxes(2))
PAIRS = (boxes(3), boxes(3))
ROIS = np.array([[1.2, 2.3, 20.1, 17.7], [-6.1, 3.3, 9.4, 26.2], [8.3, 8.9, 12.6, 11.4]])
SAME = {"window_strides": (2, 1), "padding": "SAME"}
NHWC = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
TREE = ops.WordTree(tuple("abcdefg"), (-1, -1, 0, 0, 1, 2, 2))
# Case -> (function, makers of the arrays to differentiate by, options).
CASES = {
    "word_tree_log_softmax": (ops.word_tree_log_softmax, (normal(2, 7),), {"tree": TREE}),
    "word_tree_log_probabilities": (
        ops.word_tree_log_probabilities,
        (normal(2, 7),),
        {"tree": TREE},
    ),
    "word_tree_log_probabilities, some": (
        ops.word_tree_log_probabilities,
        (normal(2, 7),),
        {"tree": TREE, "nodes": (6, 1)},
    ),
    "word_tree_log_probability": (
        ops.word_tree_log_probability,
        (normal(2, 7),),
        {"labels": np.array([6, 1]), "tree": TREE},
    ),
    "word_tree_top_node": (
        lambda x: ops.word_tree_top_node(x, tree=TREE, threshold=0.1)[1],
        (normal(2, 7),),
        {},
    ),
    "conv2d": (ops.conv2d, (normal(1, 5, 4, 2), normal(3, 3, 2, 3)), {"padding": 1}),
    "conv2d, strips": (
        ops.conv2d,
        (normal(1, 35, 3, 2), normal(3, 2, 2, 2)),
        {"padding": ((1, 0), (1, 2)), "stride": (1, 2)},
    ),
    "conv2d, depthwise": (
        ops.conv2d,
        (normal(1, 5, 4, 3), normal(3, 3, 1, 3)),
        {"padding": 1, "groups": 3, "stride": 2},
    ),
    "conv2d, depthwise, many taps": (
        ops.conv2d,
        (normal(1, 7, 6, 2), normal(5, 4, 1, 4)),
        {"padding": 2, "groups": 2, "stride": (2, 1)},
    ),
    "conv2d, groups": (
        ops.conv2d,
        (normal(1, 5, 4, 4), normal(3, 2, 2, 6)),
        {"padding": 1, "groups": 2, "dilation": (1, 2)},
    ),
    "conv2d, many narrow groups": (
        ops.conv2d,
        (normal(1, 4, 3, 32), normal(2, 2, 2, 16)),
        {"groups": 16},
    ),
    "conv2d, pointwise": (ops.conv2d, (normal(2, 3, 3, 2), normal(1, 1, 2, 3)), {"stride": 2}),
    "conv2d, tiles": (ops.conv2d, (normal(1, 5, 4, 2), normal(2, 2, 2, 3)), {"stride": 2}),
    "conv_transpose2d": (
        ops.conv_transpose2d,
        (normal(1, 3, 2, 2), normal(3, 3, 2, 3)),
        {"stride": 2, "padding": 1, "output_padding": 1},
    ),
    "conv_transpose2d, tiles": (
        ops.conv_transpose2d,
        (normal(1, 3, 2, 2), normal(2, 2, 2, 3)),
        {"stride": 2},
    ),
    "conv_general_dilated": (
        ops.conv_general_dilated,
        (normal(1, 5, 4, 2), normal(3, 3, 2, 3)),
        {**SAME, **NHWC},
    ),
    "max_pool": (ops.max_pool, (apart(1, 5, 6, 2),), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "max_pool, large": (ops.max_pool, (apart(1, 6, 6, 1),), {"kernel_size": 5, "stride": 1}),
    "max_pool_with_indices": (
        lambda x: ops.max_pool_with_indices(x, 2, ceil_mode=True)[0],
        (apart(1, 5, 4, 2),),
        {},
    ),
    "max_unpool": (
        ops.max_unpool,
        (normal(1, 2, 2, 2),),
        {"indices": np.arange(8, dtype=np.int32).reshape(1, 2, 2, 2) * 2, "output_size": (4, 4)},
    ),
    "avg_pool": (ops.avg_pool, (normal(1, 5, 4, 2),), {"kernel_size": 3, "padding": 1}),
    "adaptive_avg_pool": (ops.adaptive_avg_pool, (normal(1, 5, 4, 2),), {"output_size": (2, 6)}),
    "global_avg_pool": (ops.global_avg_pool, (normal(1, 3, 4, 2),), {}),
    "resize_bilinear": (ops.resize_bilinear, (normal(5, 4, 2),), {"size": (3, 7)}),
    "resize_nearest": (ops.resize_nearest, (normal(5, 4, 2),), {"size": (3, 7)}),
    "resize_bicubic": (ops.resize_bicubic, (normal(5, 4, 2),), {"size": (3, 7)}),
    "resize_bilinear, many terms": (ops.resize_bilinear, (normal(1, 40, 1),), {"size": (90, 1)}),
    "roi_align": (
        ops.roi_align,
        (normal(5, 6, 2),),
        {"boxes": ROIS, "output_size": (2, 3), "spatial_scale": 0.25, "sampling_ratio": 1},
    ),
    "multilevel_roi_align": (
        lambda fine, coarse, **options: ops.multilevel_roi_align([fine, coarse], **options),
        (normal(5, 6, 2), normal(3, 3, 2)),
        {
            "boxes": ROIS,
            "levels": np.array([0, 1, 0]),
            "output_size": 2,
            "spatial_scales": (0.25, 0.125),
        },
    ),
    "roi_pool": (
        ops.roi_pool,
        (apart(5, 6, 2),),
        {"boxes": ROIS, "output_size": 2, "spatial_scale": 0.25},
    ),
    "paint_masks": (
        lambda frames, masks, **options: ops.paint_masks(masks, frames, **options),
        (boxes(2),),
        {"masks": np.arange(18).reshape(2, 3, 3) * 7, "size": (9, 11)},
    ),
    "mean_in_cells": (ops.mean_in_cells, (normal(7, 6), boxes(2)), {"cells": 3}),
    "batch_norm": (
        lambda *arrays: ops.batch_norm(*arrays)[0],
        (normal(3, 2, 2), positive(2), normal(2)),
        {},
    ),
    "local_response_norm": (ops.local_response_norm, (normal(2, 6),), {"alpha": 0.5}),
    "space_to_depth": (ops.space_to_depth, (normal(4, 4, 2),), {"block_size": 2}),
    "depth_to_space": (ops.depth_to_space, (normal(2, 2, 8),), {"block_size": 2}),
    "channel_shuffle": (ops.channel_shuffle, (normal(2, 2, 6),), {"groups": 2}),
    "box_area": (ops.box_area, (boxes(3),), {}),
    "box_convert": (ops.box_convert, (boxes(3),), {"in_fmt": "xyxy", "out_fmt": "cxcywh"}),
    "clip_boxes_to_image": (ops.clip_boxes_to_image, (boxes(4),), {"size": np.array([15, 12])}),
    "box_iou": (ops.box_iou, TWO, {}),
    "generalized_box_iou": (ops.generalized_box_iou, TWO, {}),
    "distance_box_iou": (ops.distance_box_iou, TWO, {}),
    "elementwise_box_iou": (ops.elementwise_box_iou, PAIRS, {}),
    "elementwise_generalized_box_iou": (ops.elementwise_generalized_box_iou, PAIRS, {}),
    "elementwise_distance_box_iou": (ops.elementwise_distance_box_iou, PAIRS, {}),
    "encode_boxes": (ops.encode_boxes, PAIRS, {}),
    "decode_boxes": (ops.decode_boxes, (normal(3, 4), boxes(3)), {}),
    "encode_distances": (ops.encode_distances, (boxes(3), normal(3, 2)), {}),
    "decode_distances": (ops.decode_distances, (positive(3, 4), normal(3, 2)), {}),
    "encode_yolo": (
        ops.encode_yolo,
        (boxes(3), positive(3, 2)),
        {"rows": np.array([0, 0, 1]), "columns": np.array([0, 1, 0]), "stride": 16},
    ),
    "decode_yolo": (ops.decode_yolo, (normal(2, 3, 2, 4), positive(2, 2)), {"stride": 16}),
    "encode_yolov1": (
        ops.encode_yolov1,
        (boxes(3),),
        {"grid_size": (7, 5), "image_size": (40, 40)},
    ),
    "decode_yolov1": (ops.decode_yolov1, (positive(2, 3, 2, 4),), {"image_size": (40, 40)}),
    "shape_iou": (ops.shape_iou, (positive(3, 2), positive(2, 2)), {}),
    "gaussian_heatmaps": (ops.gaussian_heatmaps, (positive(2, 2),), {"size": (3, 4), "sigma": 1.5}),
    "heatmap_argmax": (ops.heatmap_argmax, (lambda rng: 1 + apart(5, 5, 2)(rng),), {}),
    "heatmaps_to_keypoints": (
        ops.heatmaps_to_keypoints,
        (apart(3, 5, 4, 2), boxes(3)),
        {"image_size": (40, 40)},
    ),
    "soft_argmax": (ops.soft_argmax, (apart(5, 5, 2),), {"radius": 2}),
    "nearest_neighbors": (
        lambda queries, index: ops.nearest_neighbors(queries, index, k=2, metric="l2")[0],
        (normal(3, 4), normal(5, 4)),
        {},
    ),
}
# What is tested by default: one of each kind of rule.
QUICK = ["conv2d", "max_pool", "resize_bilinear"]
# Mostly compositions of JAX's own operations, which JAX differentiates, or further forms.
LONG = [
    "box_iou",
    "conv2d, groups",
    "conv_general_dilated",
    "resize_bicubic",
    "decode_boxes",
    "encode_boxes",
    "local_response_norm",
    "adaptive_avg_pool",
    "box_area",
    "box_convert",
    "paint_masks",
    "mean_in_cells",
    "channel_shuffle",
    "clip_boxes_to_image",
    "complete_box_iou",
    "conv2d, depthwise, many taps",
    "conv2d, many narrow groups",
    "conv2d, pointwise",
    "conv2d, strips",
    "conv2d, tiles",
    "conv_transpose2d, tiles",
    "decode_yolov1",
    "decode_distances",
    "depth_to_space",
    "distance_box_iou",
    "elementwise_box_iou",
    "elementwise_complete_box_iou",
    "elementwise_distance_box_iou",
    "elementwise_generalized_box_iou",
    "encode_distances",
    "encode_yolo",
    "encode_yolov1",
    "gaussian_heatmaps",
    "generalized_box_iou",
    "global_avg_pool",
    "heatmap_argmax",
    "heatmaps_to_keypoints",
    "max_pool, large",
    "multilevel_roi_align",
    "nearest_neighbors",
    "resize_bilinear, many terms",
    "resize_nearest",
    "roi_pool",
    "shape_iou",
    "soft_argmax",
]
# By definition a part of the derivative is left out.
NOT_BY_DIFFERENCES = {
    "complete_box_iou": (ops.complete_box_iou, TWO, {}),
    "elementwise_complete_box_iou": (ops.elementwise_complete_box_iou, PAIRS, {}),
}
EVERY = {**CASES, **NOT_BY_DIFFERENCES}
# Their results are integers, or constants by definition.
WITHOUT_DERIVATIVES = {
    "generate_proposals",
    "postprocess_detections",
    "sample_proposals",
    "fcos_points",
    "anchor_shapes",
    "assign_levels",
    "assign_to_grid",
    "average_iou",
    "batched_nms",
    "best_anchor",
    "cell_index",
    "clip_masks",
    "crop_mask",
    "grid_anchors",
    "keypoint_cells",
    "kmeans_anchors",
    "library_forms",
    "majority_vote",
    "mask_to_indices",
    "match_anchors",
    "match_boxes",
    "mine_hard_negatives",
    "map_strides",
    "match_points",
    "multiclass_nms",
    "nms",
    "per_class_nms",
    "retinanet_anchors",
    "rpn_anchors",
    "sample_balanced",
    "soft_nms",
    "ssd_default_boxes",
    "ssd_scales",
    "yolov1_responsible",
}


def test_every_public_operator_is_in_the_table():
    functions = {name for name in ops.__all__ if callable(getattr(ops, name))}
    # Run-lengths, the placement of images and trees themselves are for the host.
    modules = {name: getattr(ops, name).__module__.rpartition(".")[2] for name in functions}
    host = "run_lengths", "polygons", "placement", "mask_pasting"
    on_device = {name for name, file in modules.items() if file not in host} - {"WordTree"}
    cases = {name.split(",")[0] for name in EVERY}
    assert on_device == cases | WITHOUT_DERIVATIVES


@pytest.mark.parametrize(
    "name", long_but(EVERY, QUICK, [name for name in EVERY if name not in (*QUICK, *LONG)])
)
def test_all_derivatives_agree(name):
    function, makers, options = EVERY[name]
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        arrays = [make(rng) for make in makers]
        check_derivatives(
            lambda *arrays: function(*arrays, **options),
            *arrays,
            differences=name not in NOT_BY_DIFFERENCES,
        )


def test_off_cpu_convolutions_and_their_transposes_are_the_librarys():
    def gradients(x, kernel):
        return jax.grad(lambda *a: ops.conv2d(*a, groups=4).sum(), argnums=(0, 1))(x, kernel)

    def library(x, kernel):
        with ops.library_forms():
            return gradients(x, kernel)

    shapes = [jax.ShapeDtypeStruct(shape, "f4") for shape in ((1, 5, 5, 4), (3, 3, 1, 4))]
    traced = [jax.jit(fn).trace(*shapes) for fn in (gradients, library)]
    for platform in ("cuda", "tpu"):
        found = []
        for fn in traced:
            text = fn.lower(lowering_platforms=(platform,)).as_text()
            lines = [line for line in text.splitlines() if "stablehlo.convolution" in line]
            found.append([re.sub(r"%\w+", "", line) for line in lines])
        assert len(found[0]) == 2  # the convolution itself is not computed
        assert sorted(found[0]) == sorted(found[1])


def primitives_of(jaxpr):
    found = set()
    for equation in jaxpr.eqns:
        found.add(equation.primitive.name)
        found.update(*map(primitives_of, jaxprs_in_params(equation.params)))
    return found


def test_library_forms_are_of_jaxs_own_operations():
    x, kernel = np.ones((1, 8, 8, 4), "f4"), np.ones((3, 3, 1, 4), "f4")

    @jax.jit
    def run(x, kernel):
        y = ops.max_pool(ops.conv2d(x, kernel, groups=4), 2)
        y = ops.resize_bilinear(ops.conv_transpose2d(y, kernel[:2, :2].swapaxes(2, 3)), 5)
        boxes = jnp.asarray(ROIS, jnp.float32)
        kept = ops.nms(boxes, boxes[:, 0], iou_threshold=0.5, max_detections=2)
        return ops.roi_align(y[0], boxes, output_size=2, spatial_scale=1.0), kept

    own = {"conv", "conv_dx", "max_pool_take", "resize", "roi_align", "by_platform"}
    # What was traced outside is not taken within, nor the reverse.
    outside = primitives_of(jax.make_jaxpr(run)(x, kernel).jaxpr)
    with ops.library_forms():
        within = primitives_of(jax.make_jaxpr(run)(x, kernel).jaxpr)
        gradient = jax.make_jaxpr(jax.grad(lambda x: run(x, kernel)[0].sum()))(x)
    assert primitives_of(jax.make_jaxpr(run)(x, kernel).jaxpr) == outside
    assert own & outside == own - {"max_pool_take"}
    assert not own & (within | primitives_of(gradient.jaxpr))
    assert "conv_general_dilated" in within


def test_an_array_for_all_of_a_map_has_the_sum_of_the_cotangents():
    """Of each argument of each primitive, under two maps."""

    def product(x, y, *, factor):
        return factor * x * y

    first, second, third = multilinear(*(Form(f"product {n}", product, product) for n in range(3)))
    x, y = np.arange(2.0), np.arange(3.0)

    def total(fn, x, y):
        inner = jax.vmap(lambda x, y: jnp.sin(fn(x, y)), (0, None))
        return jax.vmap(inner, (None, 0))(x, y).sum()

    functions = [partial(fn, factor=3) for fn in (first, second, third)]
    functions.append(lambda x, y: 3 * x * y)

    @jax.jit
    def hessians(x, y):
        return [jax.hessian(partial(total, fn), argnums=(0, 1))(x, y) for fn in functions]

    *found, expected = jax.device_get(hessians(x, y))
    for actual in found:
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), actual, expected)


def test_a_function_by_platform_takes_trees_and_is_mapped():
    def run(arrays, *, power):
        return {"sum": arrays["x"] ** power + arrays["y"]}

    arrays = {"x": np.arange(3.0), "y": np.float32(1), "none": None}
    fn = partial(by_platform, default=run, cpu=run, power=2)
    axes = ({"x": 0, "y": None, "none": None},)
    np.testing.assert_array_equal(jax.vmap(fn, axes)(arrays)["sum"], [1, 2, 5])
    with pytest.raises(NotImplementedError):
        jax.grad(lambda x: fn({"x": x, "y": x})["sum"])(1.0)


def test_one_file_knows_how_primitives_are_made():
    inner = re.compile(r"jax\.interpreters|jax\.extend|jax\._src|platform_dependent|import extend")
    found = {
        file.relative_to(PACKAGE).as_posix()
        for file in PACKAGE.rglob("*.py")
        if inner.search(file.read_text())
    }
    # The other one compiles for devices that are not there.
    assert found == {"ops/primitives.py", "planning/topology.py"}


def test_second_derivatives_of_batch_norm_over_a_mapped_axis_are_those_of_the_whole_batch():
    rng = np.random.default_rng(3)
    with jax.enable_x64(True):
        x, direction, weights = (rng.normal(size=(4, 3, 2)) for _ in range(3))
        scale, bias = rng.uniform(0.5, 2, 2), rng.normal(size=2)

        def gradient(x, weights, axis_name=None):
            def objective(x):
                y, _, _ = ops.batch_norm(x, scale, bias, axis_name=axis_name)
                return (weights * jnp.sin(y)).sum()

            return jax.grad(objective)(x)

        def product(x, direction, weights, axis_name=None):
            fn = partial(gradient, weights=weights, axis_name=axis_name)
            return jax.jvp(fn, (x,), (direction,))

        mapped = jax.vmap(partial(product, axis_name="batch"), axis_name="batch")
        both = jax.jit(lambda *arrays: (mapped(*arrays), product(*arrays)))
        actual, expected = both(x, direction, weights)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-12), actual, expected)
