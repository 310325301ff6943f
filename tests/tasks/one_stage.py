"""Stand-ins for the networks of RetinaNet, FCOS and SSD: what a detector sees of them."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from jaxvision.core import DetectionBatch

KINDS = {
    "retinanet": ("cls_logits", "bbox_regression"),
    "fcos": ("cls_logits", "bbox_regression", "bbox_ctrness"),
    "ssd": ("cls_logits", "bbox_regression"),
}


class Stages(nn.Module):
    """A backbone of four stages; the map c2 also has a scale of its own."""

    @nn.compact
    def __call__(self, x, *, train):
        maps = {}
        for level in range(4):
            x = nn.relu(nn.Conv(4, (3, 3), strides=2, name=f"conv{level}")(x))
            maps[f"c{level}"] = x
        maps["c2"] *= self.param("scale", nn.initializers.ones, ())
        return {**maps, "pooled": x.mean(axis=(1, 2))}


class OneStage(nn.Module):
    """A network with the outputs of a family, on maps of strides 8, 16, ..."""

    family: str = "retinanet"
    num_classes: int = 3
    num_anchors: int | tuple[int, ...] = 9
    maps: int = 5

    @nn.compact
    def __call__(self, images, *, train):
        x = Stages(name="backbone")(images, train=train)["c2"]
        outputs = {}
        for number in range(self.maps):
            size = x.shape[:3]
            if self.family == "fcos":
                shape, classes = size, self.num_classes
            elif self.family == "ssd":
                shape, classes = (*size, self.num_anchors[number]), self.num_classes + 1
            else:
                shape, classes = (*size, self.num_anchors), self.num_classes
            count = int(np.prod(shape[3:]))
            for kind, depth in zip(KINDS[self.family], (classes, 4, 1), strict=False):
                y = nn.Dense(count * depth, name=f"{kind}{number}")(x)
                y = y.reshape(*shape, depth)
                if kind == "bbox_ctrness":
                    y = y[..., 0]
                elif self.family == "fcos" and kind == "bbox_regression":
                    y = nn.relu(y)
                outputs[f"{kind}{number}"] = y
            x = nn.avg_pool(x, (1, 1), (2, 2))
        return outputs


def example_of(size, boxes, labels, *, extent=None, rows=6):
    """A padded example with some objects."""
    count = len(boxes)
    mask = np.arange(rows) < count
    padded = np.zeros((rows, 4))
    padded[:count] = np.reshape(boxes, (count, 4))
    classes = np.zeros(rows, np.int32)
    classes[:count] = labels
    return DetectionBatch(
        image=np.zeros((*size, 3), np.float32),
        boxes=padded,
        labels=classes,
        box_mask=mask,
        crowd=np.zeros(rows, bool),
        difficult=np.zeros(rows, bool),
        mask=np.bool_(True),
        extent=np.array(size if extent is None else extent, np.int32),
    )


def with_area(found):
    """Torchvision's detections as numpy arrays, without boxes that have no area, as in the padding.

    Those of the library that are less probable take their places.
    """
    found = {key: x.numpy() for key, x in found.items()}
    shown = (found["boxes"][:, 2:] > found["boxes"][:, :2]).all(axis=1)
    return {key: x[shown] for key, x in found.items()}


def random_outputs(shapes, rng, *, relu=False, scale=2.0):
    """Outputs of one image, f64, by name; distances are cut at 0."""
    outputs = {
        name: rng.normal(scale=scale if "logits" in name else 1.0, size=shape)
        for name, shape in shapes.items()
    }
    if relu:
        outputs = {
            name: np.maximum(x, 0) if "regression" in name else x for name, x in outputs.items()
        }
    return outputs


def feature_sizes(size, count):
    """Maps of strides 8, 16, ... of an image, rounded up."""
    sizes = [tuple(-(-side // 8) for side in size)]
    while len(sizes) < count:
        sizes.append(tuple(-(-side // 2) for side in sizes[-1]))
    return sizes


def shapes_of(family, size, count, num_classes, num_anchors):
    """Name -> shape of each output of one image."""
    shapes = {}
    for number, of_map in enumerate(feature_sizes(size, count)):
        anchors = num_anchors[number] if family == "ssd" else num_anchors
        each = of_map if family == "fcos" else (*of_map, anchors)
        classes = num_classes + (family == "ssd")
        shapes[f"cls_logits{number}"] = (*each, classes)
        shapes[f"bbox_regression{number}"] = (*each, 4)
        if family == "fcos":
            shapes[f"bbox_ctrness{number}"] = each
    return shapes


def stacked(examples):
    """A batch of examples."""
    import jax

    return jax.tree.map(lambda *x: jnp.stack(x), *examples)
