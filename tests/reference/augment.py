"""Augmentation of one image in plain numpy; what is random is given."""

import colorsys
import math

import numpy as np

from tests.reference.ops.masks import clip_masks, mean_in_cells, paint_masks
from tests.reference.ops.resize import resize_bicubic


def flip(image):
    height, width, _ = image.shape
    out = np.empty_like(image)
    for y in range(height):
        for x in range(width):
            out[y, x] = image[y, width - 1 - x]
    return out


def pad_and_crop(image, top, left, *, padding, fill=0):
    """The crop whose upper left corner is at (top, left) of the padded image."""
    height, width, _ = image.shape
    out = np.full_like(image, fill)
    for y in range(height):
        for x in range(width):
            from_y, from_x = y + top - padding, x + left - padding
            if 0 <= from_y < height and 0 <= from_x < width:
                out[y, x] = image[from_y, from_x]
    return out


def rotate(image, angle, *, fill=0):
    """Turns every pixel's position clockwise, in the result's mathematical axes, to its source."""
    height, width, channels = image.shape
    centre_y, centre_x = (height - 1) / 2, (width - 1) / 2
    radians = math.radians(angle)
    out = np.zeros(image.shape, np.float64)

    def pixel(y, x):
        inside = 0 <= y < height and 0 <= x < width
        return image[y, x].astype(np.float64) if inside else np.full(channels, float(fill))

    for y in range(height):
        for x in range(width):
            right, up = x - centre_x, centre_y - y
            from_right = math.cos(-radians) * right - math.sin(-radians) * up
            from_up = math.sin(-radians) * right + math.cos(-radians) * up
            from_y, from_x = centre_y - from_up, centre_x + from_right
            y0, x0 = math.floor(from_y), math.floor(from_x)
            for dy in (0, 1):
                for dx in (0, 1):
                    share = (1 - abs(from_y - (y0 + dy))) * (1 - abs(from_x - (x0 + dx)))
                    out[y, x] += share * pixel(y0 + dy, x0 + dx)
    return out


def normalize(image, *, mean, std):
    out = np.empty(image.shape, np.float64)
    for channel in range(image.shape[-1]):
        out[..., channel] = (image[..., channel] / 255.0 - mean[channel]) / std[channel]
    return out


def rgb_to_hsv(image):
    return _each_colour(colorsys.rgb_to_hsv, image)


def hsv_to_rgb(image):
    return _each_colour(colorsys.hsv_to_rgb, image)


# As MATLAB prints them, for colours in 0..1.
YCBCR = np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]])


def rgb_to_ycbcr(image):
    return _each_colour(lambda *rgb: YCBCR @ rgb / 255 + [16, 128, 128], image)


def ycbcr_to_rgb(image):
    return _each_colour(
        lambda y, cb, cr: np.linalg.solve(YCBCR, [y - 16, cb - 128, cr - 128]) * 255, image
    )


def _each_colour(convert, image):
    colours = [convert(*map(float, colour)) for colour in image.reshape(-1, 3)]
    return np.array(colours, np.float64).reshape(image.shape)


def downscale(image, *, factor):
    height, width = image.shape[-3:-1]
    return resize_bicubic(image, (height // factor, width // factor))


def downscale_upscale(image, *, factor):
    return resize_bicubic(downscale(image, factor=factor), image.shape[-3:-1])


def random_window(size, rng, *, scale, ratio=(3 / 4, 4 / 3)):
    """(top, left, height, width) of torchvision's RandomResizedCrop; rng is a RandomState."""
    height, width = size
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        form = math.exp(rng.uniform(*np.log(ratio)))
        w, h = round(math.sqrt(area * form)), round(math.sqrt(area / form))
        if 0 < w <= width and 0 < h <= height:
            return rng.randint(height - h + 1), rng.randint(width - w + 1), h, w
    form = min(max(width / height, ratio[0]), ratio[1])
    w, h = min(width, round(height * form)), min(height, round(width / form))
    return (height - h) // 2, (width - w) // 2, h, w


def around(boxes, move):
    """The upright boxes around the four moved corners; move((x, y)) -> (x, y)."""
    out = []
    for x1, y1, x2, y2 in np.float64(boxes):
        corners = np.array([move((x, y)) for x in (x1, x2) for y in (y1, y2)])
        out.append([*corners.min(axis=0), *corners.max(axis=0)])
    return np.array(out)


def resized_crop(image, window, *, size=None, method="bilinear", fill=127.0):
    """Each pixel of the result by itself, from the four pixels around its place in the image."""
    height, width, channels = image.shape
    rows, columns = size or (height, width)
    x1, y1, x2, y2 = map(float, window)
    dtype = np.float64 if method == "bilinear" else image.dtype
    out = np.full((rows, columns, channels), fill, dtype)
    for row in range(rows):
        for column in range(columns):
            x = x1 + (column + 0.5) / columns * (x2 - x1)
            y = y1 + (row + 0.5) / rows * (y2 - y1)
            if not (0 <= x <= width and 0 <= y <= height):
                continue
            if method == "nearest":
                out[row, column] = image[min(int(y), height - 1), min(int(x), width - 1)]
                continue
            out[row, column] = 0
            left, above = math.floor(x - 0.5), math.floor(y - 0.5)
            for i in (above, above + 1):
                for j in (left, left + 1):
                    share = (1 - abs(y - 0.5 - i)) * (1 - abs(x - 0.5 - j))
                    pixel = image[min(max(i, 0), height - 1), min(max(j, 0), width - 1)]
                    out[row, column] += share * pixel
    return out


def resized_crop_boxes(boxes, window, *, size):
    (left, top, right, bottom), (height, width) = map(float, window), size
    moved = [
        [
            (x1 - left) / (right - left) * width,
            (y1 - top) / (bottom - top) * height,
            (x2 - left) / (right - left) * width,
            (y2 - top) / (bottom - top) * height,
        ]
        for x1, y1, x2, y2 in np.float64(boxes)
    ]
    return np.array(moved)


def clip(boxes, real, window, *, least_visible=0.25, least_side=1.0):
    """The boxes and which of them are real, after clipping to a window and dropping."""
    left, top, right, bottom = map(float, window)
    out, kept = np.zeros(boxes.shape), np.zeros(real.shape, bool)
    for row, (x1, y1, x2, y2) in enumerate(np.float64(boxes)):
        if not real[row]:
            continue
        x3, x4 = (min(max(x, left), right) for x in (x1, x2))
        y3, y4 = (min(max(y, top), bottom) for y in (y1, y2))
        visible = (x4 - x3) * (y4 - y3)
        if visible <= 0 or visible < least_visible * (x2 - x1) * (y2 - y1):
            continue
        if min(x4 - x3, y4 - y3) >= least_side:
            out[row], kept[row] = (x3, y3, x4, y4), True
    return out, kept


def clip_and_drop(example, *, least_visible=0.25, least_side=1.0):
    height, width, _ = example.image.shape
    window = (0, 0, width, height)
    boxes, real = clip(
        example.boxes,
        example.box_mask,
        window,
        least_visible=least_visible,
        least_side=least_side,
    )
    if example.masks is not None:
        example = example.replace(masks=clip_masks(example.masks, example.mask_frames, window))
    rows = rows_of(example.replace(boxes=boxes, box_mask=real))
    return with_rows(example, rows)


def largest_rows(rows, number):
    """Rows (box, real, ...), the real ones first, from the largest down; the first `number`."""

    def area(row):
        (x1, y1, x2, y2), real, *_ = row
        return max(x2 - x1, 0) * max(y2 - y1, 0) if real else -1

    return sorted(rows, key=lambda row: -area(row))[:number]


def rows_of(example):
    """(box, real, label, crowd, difficult, mask, frame) of each row; the last two may be None."""
    rows = []
    for n, real in enumerate(example.box_mask):
        box = np.float64(example.boxes[n]) if real else np.zeros(4)
        mask = frame = None
        if example.masks is not None:
            mask = example.masks[n] * np.uint8(real)
            frame = np.float64(example.mask_frames[n]) if real else np.zeros(4)
        flags = example.labels[n], example.crowd[n], example.difficult[n]
        rows.append((box, real, *flags, mask, frame))
    return rows


def with_rows(example, rows):
    boxes, real, labels, crowd, difficult, masks, frames = map(np.array, zip(*rows, strict=True))
    return example.replace(
        boxes=boxes,
        box_mask=real,
        labels=labels,
        crowd=crowd,
        difficult=difficult,
        masks=None if example.masks is None else masks,
        mask_frames=None if example.masks is None else frames,
    )


def mosaic(examples, centre, moves, bound=True):
    """Four examples around a centre, (x, y); each moved by its (x, y).

    Boxes are clipped to their part if `bound`, else to the whole.
    """
    height, width, _ = examples[0].image.shape
    image, rows = np.empty_like(examples[0].image), []
    for number, (example, (dx, dy)) in enumerate(zip(examples, moves, strict=True)):
        left, right = (0, centre[0]) if number % 2 == 0 else (centre[0], width)
        top, bottom = (0, centre[1]) if number < 2 else (centre[1], height)
        for y in range(top, bottom):
            for x in range(left, right):
                assert 0 <= y - dy < height
                assert 0 <= x - dx < width
                image[y, x] = example.image[y - dy, x - dx]
        move, window = np.array([dx, dy, dx, dy]), (left, top, right, bottom)
        if not bound:
            window = (0, 0, width, height)
        boxes, real = clip(np.float64(example.boxes) + move, example.box_mask, window)
        example = example.replace(boxes=boxes, box_mask=real)
        if example.masks is not None:
            frames = np.float64(example.mask_frames) + move
            masks = clip_masks(example.masks, frames, window)
            example = example.replace(masks=masks, mask_frames=frames)
        rows += rows_of(example)
    return with_rows(examples[0], largest_rows(rows, len(examples[0].boxes))).replace(image=image)


def blend(example, other, share):
    image = share * np.float64(example.image) + (1 - share) * np.float64(other.image)
    rows = largest_rows(rows_of(example) + rows_of(other), len(example.boxes))
    return with_rows(example, rows).replace(image=image)


def towards(image, other, factor):
    """The other for factor 0, the image for 1, beyond it for more."""
    return np.clip(other + factor * (image.astype(np.float64) - other), 0, 255)


def each_grey(image):
    if image.shape[-1] == 1:
        return image.astype(np.float64)
    return (image.astype(np.float64) * [0.299, 0.587, 0.114]).sum(-1, keepdims=True)


def adjust_brightness(image, factor):
    return towards(image, 0, factor)


def adjust_contrast(image, factor):
    return towards(image, each_grey(image).mean(), factor)


def adjust_saturation(image, factor):
    return towards(image, each_grey(image), factor)


def adjust_sharpness(image, factor):
    height, width, _ = image.shape
    smooth = image.astype(np.float64)
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            around = image[y - 1 : y + 2, x - 1 : x + 2].astype(np.float64).sum((0, 1))
            smooth[y, x] = (around + 4.0 * image[y, x]) / 13
    return towards(image, smooth, factor)


def adjust_hue(image, shift):
    if image.shape[-1] == 1:
        return image.astype(np.float64)
    hue, *others = np.moveaxis(rgb_to_hsv(image), -1, 0)
    return hsv_to_rgb(np.stack([(hue + float(shift)) % 1, *others], axis=-1))


def posterize(image, bits):
    return np.array(image).astype(int) // 2 ** (8 - int(bits)) * 2.0 ** (8 - int(bits))


def solarize(image, threshold):
    return np.where(image < threshold, image, 255.0 - image)


def autocontrast(image):
    out = image.astype(np.float64)
    for channel in np.moveaxis(out, -1, 0):
        if channel.max() > channel.min():
            channel[:] = (channel - channel.min()) / (channel.max() - channel.min()) * 255
    return out


def equalize(image):
    out = image.astype(np.float64)
    for channel in np.moveaxis(out, -1, 0):
        values = np.floor(channel)
        step = int((values < values.max()).sum()) // 255
        if step:
            for value in np.unique(values):
                below = int((values < value).sum())
                channel[values == value] = min((below + step // 2) // step, 255)
    return out


def color_jitter(image, changes):
    """(name, factor or shift) in their order."""
    for name, amount in changes:
        image = globals()[f"adjust_{name}"](image, amount)
    return image


def shown_from(image, source, fill=127.0):
    """For each pixel's centre (x, y), the pixel that source(x, y) is in."""
    height, width, _ = image.shape
    out = np.full(image.shape, fill, np.float64)
    for row in range(height):
        for column in range(width):
            x, y = source(column + 0.5, row + 0.5)
            if 0 <= x <= width and 0 <= y <= height:
                out[row, column] = image[min(int(y), height - 1), min(int(x), width - 1)]
    return out


def rand_augment_operations(m, height, width):
    """(name, sign) -> function of an image; a sign of 0 where there is none."""
    middle_x, middle_y = width / 2, height / 2
    operations = {
        ("Identity", 0): lambda image: image.astype(np.float64),
        ("Posterize", 0): lambda image: posterize(image, 8 - round(4 * m)),
        ("Solarize", 0): lambda image: solarize(image, 255 - 255 * m),
        ("AutoContrast", 0): autocontrast,
        ("Equalize", 0): equalize,
    }

    def turned(angle):
        turn = np.exp(1j * angle)

        def source(x, y):
            place = (x - middle_x + 1j * (y - middle_y)) * turn
            return place.real + middle_x, place.imag + middle_y

        return source

    for sign in (-1, 1):
        across, down = (sign * math.floor(150 / 331 * side * m) for side in (width, height))
        slope = sign * 0.3 * m
        sources = {
            "ShearX": lambda x, y, slope=slope: (x + slope * y, y),
            "ShearY": lambda x, y, slope=slope: (x, y + slope * x),
            "TranslateX": lambda x, y, across=across: (x - across, y),
            "TranslateY": lambda x, y, down=down: (x, y - down),
            "Rotate": turned(sign * math.radians(30 * m)),
        }
        for name, source in sources.items():
            operations[name, sign] = lambda image, source=source: shown_from(image, source)
        factor = 1 + sign * 0.9 * m
        blends = {
            "Brightness": adjust_brightness,
            "Color": adjust_saturation,
            "Contrast": adjust_contrast,
            "Sharpness": adjust_sharpness,
        }
        for name, adjust in blends.items():
            operations[name, sign] = lambda image, adjust=adjust, factor=factor: adjust(
                image, factor
            )
    return operations


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def centre_inside(box, window):
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return window[0] < x < window[2] and window[1] < y < window[3]


def iou_crop(boxes, size, rng, *, options, scale=(0.3, 1.0), ratio=(0.5, 2.0), trials=40):
    """(the option, the crop, which boxes stay) of SSD's crop, one draw after the other."""
    height, width = size
    while True:
        option = options[rng.integers(len(options))]
        if option >= 1:
            return option, (0, 0, width, height), [True] * len(boxes)
        for _ in range(trials):
            w, h = int(width * rng.uniform(*scale)), int(height * rng.uniform(*scale))
            left, top = int((width - w) * rng.random()), int((height - h) * rng.random())
            crop = (left, top, left + w, top + h)
            inside = [centre_inside(box, crop) for box in boxes]
            best = max(
                (iou(box, crop) for box, stays in zip(boxes, inside, strict=True) if stays),
                default=-1,
            )
            if ratio[0] <= w / h <= ratio[1] and best >= max(option, 0):
                return option, crop, inside


def copy_paste(example, other):
    """Everything of the other image that is no crowd: (the image, masks, labels dropped).

    Masks [N, M, M] of the example's rows, in 0..255.
    """
    height, width, _ = example.image.shape
    pasted = np.zeros((height, width), bool)
    painted = paint_masks(other.masks, other.mask_frames, size=(height, width))
    for n, mask in enumerate(painted):
        if other.box_mask[n] and not other.crowd[n]:
            pasted |= mask >= 0.5
    image = np.where(pasted[..., None], other.image, example.image)
    seen = mean_in_cells(1.0 - pasted, example.mask_frames, cells=example.masks.shape[1])
    masks = np.rint(example.masks * seen)
    gone = {
        int(label)
        for label, mask, real in zip(example.labels, masks, example.box_mask, strict=True)
        if real and not (mask > 127).any()
    }
    return image, masks, gone
