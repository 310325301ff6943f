"""Networks that detect objects."""
