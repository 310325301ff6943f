"""The table of torchvision's published weights, as JSON, from the metadata of an installed one.

  python -m tests.interop.torchvision_weights > jaxvision/interop/pretrained_weights.json

All weights of classifiers, detectors and segmenters are in it; quantised, video and optical-flow
networks are not. Needs torch and torchvision.
"""

import importlib.metadata
import json
import math

from tests.ops.parity import import_torchvision

_SETS = {1000: "imagenet", 91: "coco", 21: "voc", 2: "person"}  # by the number of categories
_KINDS = {
    "ImageClassification": "classification",
    "ObjectDetection": "detection",
    "SemanticSegmentation": "segmentation",
}


def table():
    """What the file has."""
    _, models = import_torchvision("models")
    classes, rows = {}, []
    for module in (models, models.detection, models.segmentation):
        for name in models.list_models(module=module):
            enum = models.get_model_weights(name)
            for weights in enum:
                names = weights.meta["categories"]
                if names:
                    known = classes.setdefault(_SETS[len(names)], list(names))
                    assert known == list(names), weights
                rows.append(_row(name, weights, enum.DEFAULT))
    keypoints = models.detection.KeypointRCNN_ResNet50_FPN_Weights.DEFAULT.meta["keypoint_names"]
    address = {weights["address"].rpartition("/")[0] for weights in rows}
    assert len(address) == 1
    for weights in rows:
        weights["file"] = weights.pop("address").rpartition("/")[2]
    return {
        "torchvision": importlib.metadata.version("torchvision").partition("+")[0],
        "address": address.pop(),
        "classes": classes,
        "keypoints": list(keypoints),
        "weights": rows,
    }


def _row(name, weights, default):
    meta, preset = weights.meta, weights.transforms()
    metrics = {
        data: {key: value for key, value in found.items() if not math.isnan(value)}
        for data, found in meta["_metrics"].items()
    }
    kind = _KINDS[type(preset).__name__]
    return {
        "model": name,
        "name": weights.name,
        "enum": type(weights).__name__,
        "default": weights is default,
        "task": kind,
        "address": weights.url,
        "mebibytes": meta["_file_size"],
        "params": meta["num_params"],
        "g_multiply_adds": meta["_ops"],
        "metrics": {data: found for data, found in metrics.items() if found},
        "classes": _SETS[len(meta["categories"])] if meta["categories"] else None,
        "preprocessing": _preprocessing(preset, kind),
        "recipe": meta["recipe"],
        "license": meta.get("license"),
    }


def _preprocessing(preset, kind):
    if kind == "detection":
        return {}
    (resize,) = preset.resize_size
    found = {
        "resize_size": resize,
        "interpolation": preset.interpolation.value,
        "mean": list(preset.mean),
        "std": list(preset.std),
    }
    if kind == "classification":
        (found["crop_size"],) = preset.crop_size
    return found


def main():
    lines = []
    found = table()
    rows = found.pop("weights")
    for key, value in found.items():
        lines.append(f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}")
    listed = ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in rows)
    lines.append(f'"weights": [\n{listed}\n]')
    print("{\n" + ",\n".join(lines) + "\n}")


if __name__ == "__main__":
    main()
