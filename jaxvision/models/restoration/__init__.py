"""Networks that restore images."""
