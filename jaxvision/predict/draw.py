"""Draws detections into pictures, and lays pictures out in a grid; on the host, with Pillow."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw

from jaxvision.core import InputError, check_range
from jaxvision.ops import RunLengths, decode_mask
from jaxvision.predict.arrays import check_host_array, check_picture
from jaxvision.predict.canvas import (
    GROUND,
    OPACITY,
    Rectangle,
    draw_tag,
    draw_text,
    font_of,
    line_width,
    one_line,
    outline_width,
    side,
    tag_place,
    tag_size,
    text_size,
)
from jaxvision.predict.colors import Color, class_color, text_color
from jaxvision.predict.skeletons import Limbs, draw_skeleton, limbs_between


def draw_detections(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray | None,
    class_names: Sequence[str],
    *,
    masks: np.ndarray | Sequence[RunLengths] | None = None,
    keypoints: np.ndarray | None = None,
    limbs: Limbs | None = None,
    keypoint_threshold: float = 0.0,
) -> np.ndarray:
    """Draws boxes into an image, each with a tag that shows its class and score.

    Lines and text are larger in a larger picture. A tag is at a corner of its box: the one at which
    it covers the least of the tags of earlier detections. The first detection is drawn on top; in
    `Detections` it has the highest score. Letters that Pillow's font lacks (all beyond ASCII) are
    drawn as empty rectangles.

    Args:
      image: u8[H, W, 3], RGB.
      boxes: f[K, 4], xyxy, pixels of the image; edges outside the image are drawn at its border.
      labels: int[K], indices into `class_names`.
      scores: f[K], or None for objects that have none.
      class_names: of the labels.
      masks: bool[K, H, W], or K run-lengths of the image's size, drawn over the image in the
        classes' colours, with an outline along their edges, or None.
      keypoints: f[K, P, 3] of each object, xy, pixels of the image, and a score or visibility; or
        None. Dots have the colours of the keypoints' numbers.
      limbs: pairs of keypoints, by their indices, between which lines are drawn; None: those of
        `COCO_SKELETON` between 17 keypoints, else none.
      keypoint_threshold: keypoints whose third value is not larger are not drawn, nor are their
        limbs, nor keypoints outside the image.
    Returns:
      u8[H, W, 3]; the image itself is not changed.
    Raises:
      AssertionError: an argument has another shape or dtype.
      InputError: a box is not finite, or its x2 < x1 or y2 < y1, a label has no name, a mask has
        another size than the image, a keypoint to be drawn is not finite, or a limb is not between
        two keypoints.
    """
    image = check_picture("image", image)
    boxes = check_host_array("boxes", boxes, ("K", 4), jnp.floating).astype(np.float64)
    count = len(boxes)
    labels = check_host_array("labels", labels, (count,), jnp.integer).tolist()
    if scores is not None:
        scores = check_host_array("scores", scores, (count,), jnp.floating).tolist()
    if masks is not None:
        masks = _checked_masks(masks, count, image.shape[:2])
    if keypoints is not None:
        keypoints = check_host_array("keypoints", keypoints, (count, "P", 3), jnp.floating)
        keypoints = keypoints.astype(np.float64)
        shown = keypoints[..., 2] > keypoint_threshold
        _check_keypoints(keypoints, shown)
        limbs = limbs_between(keypoints.shape[1], limbs)
    _check_boxes(boxes)
    for row, label in enumerate(labels):
        if not 0 <= label < len(class_names):
            raise InputError(
                f"labels[{row}] is {label}, but class_names has {len(class_names)} names: give a "
                "name for it"
            )

    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    line, outline, font = line_width(canvas), outline_width(canvas), font_of(canvas)
    colors = [class_color(label) for label in labels]
    frames = [_frame(box, line, canvas) for box in boxes]
    texts = [one_line(class_names[label]) for label in labels]
    if scores is not None:
        texts = [f"{text} {score:.2f}" for text, score in zip(texts, scores, strict=True)]
    tags: list[Rectangle] = []
    for text, frame in zip(texts, frames, strict=True):
        size = tag_size(text, font)
        tags.append(tag_place(size, _tag_corners(size, frame.grown(outline)), tags, canvas))

    first_on_top = range(count)[::-1]
    if masks is not None:
        for k in first_on_top:
            mask = masks[k]
            mask = decode_mask(mask) if isinstance(mask, RunLengths) else mask
            _draw_mask(canvas, mask, colors[k], line)
    for k in first_on_top:
        _draw_frame(draw, frames[k].grown(outline), text_color(colors[k]), line + 2 * outline)
        _draw_frame(draw, frames[k], colors[k], line)
    if keypoints is not None:
        for k in first_on_top:
            draw_skeleton(canvas, keypoints[k, :, :2], shown[k], limbs)
    for k in first_on_top:
        draw_tag(draw, tags[k], texts[k], colors[k], font, outline)
    return np.array(canvas)


def picture_grid(
    pictures: Sequence[np.ndarray], *, columns: int, captions: Sequence[str] | None = None
) -> np.ndarray:
    """Lays pictures out side by side on a dark grey background, row by row.

    A column is as wide as its widest picture, a row as high as its highest one; no picture is
    resized.

    Args:
      pictures: u8[H, W, 3] each, of any sizes; at least one.
      columns: pictures in a row, at least 1; a grid has no empty columns.
      captions: a line of text above each picture, or None.
    Returns:
      u8[height, width, 3].
    Raises:
      AssertionError: a picture has another shape or dtype, or the number of captions is wrong.
      InputError: there are no pictures, or columns is below 1.
    """
    check_range("columns", columns, least=1)
    if not pictures:
        raise InputError("pictures has no elements: give at least one")
    images = [
        Image.fromarray(check_picture(f"pictures[{number}]", picture))
        for number, picture in enumerate(pictures)
    ]
    if captions is not None and len(captions) != len(images):
        raise AssertionError(f"captions has {len(captions)} elements: give {len(images)}")
    columns = min(columns, len(images))
    font = font_of(max(images, key=side))
    texts = [one_line(caption) for caption in captions or [""] * len(images)]
    text_height = sum(font.getmetrics()) if captions else 0
    widths = [
        max(image.width, text_size(text, font)[0])
        for image, text in zip(images, texts, strict=True)
    ]
    heights = [image.height + text_height for image in images]
    starts = range(0, len(images), columns)
    gap = round(font.size / 2)
    lefts = _edges([max(widths[column::columns]) for column in range(columns)], gap)
    tops = _edges([max(heights[start : start + columns]) for start in starts], gap)

    canvas = Image.new("RGB", (lefts[-1], tops[-1]), GROUND)
    draw = ImageDraw.Draw(canvas)
    for number, (image, text) in enumerate(zip(images, texts, strict=True)):
        left, top = lefts[number % columns], tops[number // columns]
        draw_text(draw, (left, top), text, GROUND, font)
        canvas.paste(image, (left, top + text_height))
    return np.array(canvas)


def _edges(sizes: Sequence[int], gap: int) -> list[int]:
    """Computes where each thing in a row starts, with gaps around it, and where the row ends."""
    return [int(edge) for edge in gap + np.cumsum([0, *(size + gap for size in sizes)])]


def _frame(box: np.ndarray, line: int, canvas: Image.Image) -> Rectangle:
    """Computes the outer edge of a line along the edge of a box; it is inside the picture."""
    size = np.array(canvas.size)
    low = np.clip(np.round(box[:2]) - line // 2, 0, size - 1)
    high = np.clip(np.round(box[2:]) + line // 2, low + 1, size)
    return Rectangle(*map(int, (*low, *high)))


def _checked_masks(
    masks: Any, count: int, size: tuple[int, int]
) -> np.ndarray | Sequence[RunLengths]:
    """Returns bool[count, *size], or run-lengths whose number and size are right."""
    if not isinstance(masks, Sequence):
        return check_host_array("masks", masks, (count, *size), np.bool_)
    if len(masks) != count:
        raise AssertionError(f"masks has {len(masks)} elements: give {count}")
    for row, mask in enumerate(masks):
        if not isinstance(mask, RunLengths):
            raise AssertionError(f"masks[{row}] is {type(mask).__name__}: give RunLengths")
        if mask.size != tuple(size):
            raise InputError(f"masks[{row}] is {mask.size} in size: give masks of {tuple(size)}")
    return masks


def _draw_mask(canvas: Image.Image, mask: np.ndarray, color: Color, line: int) -> None:
    """Lays a colour over the pixels of a mask bool[H, W], and draws a line along its edge, inside.

    There is no line along the edges of the picture, where an object may go on.
    """
    spans = [np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0)]
    if not spans[0].size:
        return
    (top, left), (bottom, right) = (
        (max(span[0] - line, 0) for span in spans),
        (span[-1] + 1 + line for span in spans),
    )
    part = mask[top:bottom, left:right]
    edge = part & ~_eroded(part, line)
    opacity = np.where(edge, np.uint8(255), part * np.uint8(255 * OPACITY))
    canvas.paste(color, (int(left), int(top)), mask=Image.fromarray(opacity))


def _eroded(mask: np.ndarray, by: int) -> np.ndarray:
    """The pixels whose neighbours up to `by` pixels away, inside the array, are in the mask too."""
    sums = np.pad(mask, by, mode="edge").cumsum(axis=0, dtype=np.int32).cumsum(axis=1)
    sums = np.pad(sums, ((1, 0), (1, 0)))
    side = 2 * by + 1
    low, high = slice(None, -side), slice(side, None)
    inside = sums[high, high] - sums[low, high] - sums[high, low] + sums[low, low]
    return inside == side**2


def _draw_frame(draw: ImageDraw.ImageDraw, frame: Rectangle, color: Color, line: int) -> None:
    """Draws the border of a rectangle, towards its inside."""
    x1, y1, x2, y2 = frame
    half = (min(x2 - x1, y2 - y1) + 1) // 2
    draw.rectangle((x1, y1, x2 - 1, y2 - 1), outline=color, width=min(line, half))


def _tag_corners(size: tuple[int, int], frame: Rectangle) -> Iterator[tuple[int, int]]:
    """Yields the corners of a tag: outside its box above and below it, then inside."""
    width, height = size
    for y in (frame.y1 - height, frame.y2, frame.y1, frame.y2 - height):
        for x in (frame.x1, frame.x2 - width):
            yield x, y


def _check_boxes(boxes: np.ndarray) -> None:
    """Raises InputError, which names the box, if one of them cannot be drawn."""
    for wrong, reason in (
        (~np.isfinite(boxes).all(axis=1), "not finite"),
        ((boxes[:, 2:] < boxes[:, :2]).any(axis=1), "with x2 < x1 or y2 < y1"),
    ):
        if wrong.any():
            row = int(wrong.argmax())
            raise InputError(f"boxes[{row}] is {boxes[row].tolist()}, {reason}: leave it out")


def _check_keypoints(keypoints: np.ndarray, shown: np.ndarray) -> None:
    """Raises InputError, which names the keypoint, if one that is shown is not finite."""
    wrong = shown & ~np.isfinite(keypoints).all(axis=-1)
    if wrong.any():
        row, number = np.argwhere(wrong)[0].tolist()
        raise InputError(
            f"keypoints[{row}, {number}] is {keypoints[row, number].tolist()}, not finite: set its "
            "third value to 0"
        )
