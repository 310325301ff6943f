"""Settings of the tests of networks, most of whose time goes into tracing."""

import pytest

from tests.models.variables import untraced_initialisers


@pytest.fixture(autouse=True)
def quickly_traced():
    with untraced_initialisers():
        yield
