"""Networks that give feature maps at several strides."""
