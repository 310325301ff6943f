"""Weights of our own that are published by name, from a server of this machine."""

import contextlib
import copy
import hashlib

from jaxvision.interop import pretrained, published_weights, to_state_dict
from tests.interop.torch_format import state_dict
from tests.interop.weights_server import serving


@contextlib.contextmanager
def serving_weights(monkeypatch, cache, model, variables):
    """Serves IMAGENET1K_V1 of a classifier of two classes, the only weights of the table meanwhile.

    Images are resized to 36 pixels and cropped to 32.

    Args:
      monkeypatch: pytest's.
      cache: folder that downloads go to.
      model: name of the network.
      variables: of the network.
    Yields:
      the server, and the path of the file.
    """
    content = state_dict(to_state_dict(variables))
    file = f"{model}-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    table = copy.deepcopy(pretrained._table())
    row = next(row for row in table["weights"] if row["model"] == "resnet18")
    row |= {"model": model, "enum": "Own_Weights", "file": file, "classes": "pair"}
    row["preprocessing"] |= {"resize_size": 36, "crop_size": 32}
    row["mebibytes"] = round(len(content) / 2**20, 3)
    table["weights"], table["classes"] = [row], {"pair": ["sea", "fire"]}
    monkeypatch.setattr(pretrained, "_table", lambda: table)
    monkeypatch.setenv("JAXVISION_CACHE", str(cache))
    published_weights.cache_clear()
    with serving() as server:
        monkeypatch.setenv("JAXVISION_MIRROR", server.address + "/")
        server.files[f"/{file}"] = content
        yield server, f"/{file}"
    published_weights.cache_clear()
