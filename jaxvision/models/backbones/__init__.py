"""Networks that return feature maps at several strides."""
