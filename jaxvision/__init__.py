"""Computer vision in JAX: networks, losses, operators and training, pure and functional."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxvision import augment, data, losses, metrics, ops, tasks, testing
    from jaxvision.core import InputError, Inputs
    from jaxvision.engine import Best, Phase, evaluate, fit
    from jaxvision.interop import load_pretrained, load_weights
    from jaxvision.models import MODELS, create_model
    from jaxvision.planning import plan
    from jaxvision.predict import predict
    from jaxvision.runs import load_run

__version__ = "0.1.0"

# Name -> (module, what it is called there; None: the module itself). Importing the package loads
# nothing else, so that `import jaxvision` is quick and needs no more than what is used.
_EXPORTS = {
    "MODELS": ("models", "MODELS"),
    "Best": ("engine", "Best"),
    "InputError": ("core", "InputError"),
    "Inputs": ("core", "Inputs"),
    "Phase": ("engine", "Phase"),
    "augment": ("augment", None),
    "create_model": ("models", "create_model"),
    "data": ("data", None),
    "evaluate": ("engine", "evaluate"),
    "fit": ("engine", "fit"),
    "load_pretrained": ("interop", "load_pretrained"),
    "load_run": ("runs", "load_run"),
    "load_weights": ("interop", "load_weights"),
    "losses": ("losses", None),
    "metrics": ("metrics", None),
    "ops": ("ops", None),
    "plan": ("planning", "plan"),
    "predict": ("predict", "predict"),
    "tasks": ("tasks", None),
    "testing": ("testing", None),
}

__all__ = [
    "MODELS",
    "Best",
    "InputError",
    "Inputs",
    "Phase",
    "__version__",
    "augment",
    "create_model",
    "data",
    "evaluate",
    "fit",
    "load_pretrained",
    "load_run",
    "load_weights",
    "losses",
    "metrics",
    "ops",
    "plan",
    "predict",
    "tasks",
    "testing",
]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _EXPORTS[name]
    loaded = importlib.import_module(f"{__name__}.{module}")
    value = loaded if attribute is None else getattr(loaded, attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
