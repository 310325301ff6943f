"""Floor 2: losses of one example, as (total, weight)."""

from jaxvision.losses.classification import cross_entropy

__all__ = ["cross_entropy"]
