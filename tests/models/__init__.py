import pytest

# Their assertions say what differs, as those of the tests do.
for _module in ("parity", "structure", "training", "variables"):
    pytest.register_assert_rewrite(f"{__name__}.{_module}")
