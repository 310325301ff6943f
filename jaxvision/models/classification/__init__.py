"""Networks that only classify."""
