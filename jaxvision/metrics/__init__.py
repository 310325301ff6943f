"""Floor 2: metrics."""

from jaxvision.metrics.classification import top_k_accuracy

__all__ = ["top_k_accuracy"]
