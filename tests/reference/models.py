"""Networks and their parts in plain numpy, in float64, in evaluation mode."""

import numpy as np


def conv(x, kernel, *, stride=1, padding=0, bias=0.0):
    """x [B, H, W, C], kernel [K, K, C, F]."""
    size = kernel.shape[0]
    x = np.pad(x.astype(np.float64), ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    rows = range(0, x.shape[1] - size + 1, stride)
    columns = range(0, x.shape[2] - size + 1, stride)
    out = np.zeros((len(x), len(rows), len(columns), kernel.shape[-1]))
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            window = x[:, row : row + size, column : column + size]
            out[:, i, j] = np.einsum("bhwc,hwcf->bf", window, kernel.astype(np.float64))
    return out + bias


def average_pool(x):
    """2x2 at stride 2."""
    return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4


def batch_norm(x, params, statistics, *, epsilon=1e-5):
    normed = (x - statistics["mean"]) / np.sqrt(statistics["var"] + epsilon)
    return normed * params["scale"] + params["bias"]


def option_a_shortcut(x, features, stride):
    batch, height, width, channels = x.shape
    rows, columns = range(0, height, stride), range(0, width, stride)
    before = (features - channels) // 2
    out = np.zeros((batch, len(rows), len(columns), features), x.dtype)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            for channel in range(channels):
                out[:, i, j, before + channel] = x[:, row, column, channel]
    return out


def lenet5(variables, images):
    p = variables["params"]
    c1 = np.tanh(conv(images, p["c1"]["kernel"], bias=p["c1"]["bias"]))
    c3 = np.tanh(conv(average_pool(c1), p["c3"]["kernel"], bias=p["c3"]["bias"]))
    c5 = np.tanh(conv(average_pool(c3), p["c5"]["kernel"], bias=p["c5"]["bias"]))[:, 0, 0]
    f6 = np.tanh(c5 @ p["f6"]["kernel"] + p["f6"]["bias"])
    logits = f6 @ p["output"]["kernel"] + p["output"]["bias"]
    return {"c1": c1, "c3": c3, "pooled": f6, "logits": logits}


def resnet_cifar(variables, images, *, blocks, widths, shortcuts=True):
    params, statistics = variables["params"], variables["batch_stats"]

    def conv_norm(x, conv_name, norm_name, stride=1):
        x = conv(x, params[conv_name]["kernel"], stride=stride, padding=1)
        return batch_norm(x, params[norm_name], statistics[norm_name])

    x = np.maximum(conv_norm(images, "conv1", "bn1"), 0)
    maps = {"c1": x}
    for stage, width in enumerate(widths, start=1):
        for block in range(blocks):
            name = f"layer{stage}_{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            y = np.maximum(conv_norm(x, f"{name}_conv1", f"{name}_bn1", stride), 0)
            y = conv_norm(y, f"{name}_conv2", f"{name}_bn2")
            shortcut = option_a_shortcut(x, width, stride) if shortcuts else 0
            x = np.maximum(y + shortcut, 0)
        maps[f"c{stage + 1}"] = x
    pooled = x.mean(axis=(1, 2))
    logits = pooled @ params["fc"]["kernel"] + params["fc"]["bias"]
    return {**maps, "pooled": pooled, "logits": logits}


def resnet9(variables, images):
    params, statistics = variables["params"], variables["batch_stats"]

    def layer(x, name):
        x = conv(x, params[f"{name}_conv"]["kernel"], padding=1)
        return np.maximum(batch_norm(x, params[f"{name}_bn"], statistics[f"{name}_bn"]), 0)

    x = layer(images, "prep")
    maps = {"c0": x}
    for stage in (1, 2, 3):
        x = layer(x, f"layer{stage}")
        batch, height, width, channels = x.shape
        cells = x[:, : height // 2 * 2, : width // 2 * 2]
        x = cells.reshape(batch, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))
        if stage != 2:
            branch = layer(layer(x, f"layer{stage}_residual_res1"), f"layer{stage}_residual_res2")
            x = x + branch
        maps[f"c{stage}"] = x
    pooled = x.max(axis=(1, 2))
    return {**maps, "pooled": pooled, "logits": 0.125 * (pooled @ params["linear"]["kernel"])}


def dncnn(variables, images, *, depth):
    params, statistics = variables["params"], variables["batch_stats"]

    def convolution(x, number):
        layer = params[f"conv{number}"]
        return conv(x, layer["kernel"], padding=1, bias=layer.get("bias", 0))

    x = np.maximum(convolution(images, 1), 0)
    for number in range(2, depth):
        name = f"bn{number}"
        x = np.maximum(batch_norm(convolution(x, number), params[name], statistics[name]), 0)
    residual = convolution(x, depth)
    return {"residual": residual, "image": images - residual}


def srcnn(variables, images, *, padding):
    conv1, conv2, conv3 = (variables["params"][f"conv{number}"] for number in (1, 2, 3))

    def convolution(x, layer):
        zeros = len(layer["kernel"]) // 2 if padding == "same" else 0
        return conv(x, layer["kernel"], padding=zeros, bias=layer["bias"])

    x = np.maximum(convolution(images, conv1), 0)
    x = np.maximum(convolution(x, conv2), 0)
    return {"image": convolution(x, conv3)}


def espcn(variables, images, *, factor):
    conv1, conv2, conv3 = (variables["params"][f"conv{number}"] for number in (1, 2, 3))

    def convolution(x, layer):
        return conv(x, layer["kernel"], padding=len(layer["kernel"]) // 2, bias=layer["bias"])

    x = convolution(np.tanh(convolution(np.tanh(convolution(images, conv1)), conv2)), conv3)
    batch, height, width, channels = images.shape
    out = np.zeros((batch, height * factor, width * factor, channels))
    for row, column, channel in np.ndindex(out.shape[1:]):
        cell = (channel * factor + row % factor) * factor + column % factor
        out[:, row, column, channel] = x[:, row // factor, column // factor, cell]
    return {"image": out}
