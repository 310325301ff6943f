"""Computer vision in JAX: networks, losses, operators and training, pure and functional."""

from jaxvision.core import InputError
from jaxvision.interop import load_weights
from jaxvision.models import MODELS, create_model

__version__ = "0.1.0"

__all__ = ["MODELS", "InputError", "__version__", "create_model", "load_weights"]
