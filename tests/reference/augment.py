"""Augmentation of one image in plain numpy; what is random is given."""

import math

import numpy as np


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
