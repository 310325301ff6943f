"""Floor 4: weights from and to other libraries."""

from jaxvision.interop.torchvision import from_state_dict

__all__ = ["from_state_dict"]
