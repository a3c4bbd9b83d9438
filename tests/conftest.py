"""Fixtures that every suite shares."""

import pytest

from harness.backend import Recorder
from harness.gate import Gate


@pytest.fixture
def recorder():
    """A fresh recording service."""
    with Recorder() as service:
        yield service


@pytest.fixture(scope="module")
def service():
    """A recording service for all tests of a file."""
    with Recorder() as service:
        yield service


@pytest.fixture(scope="module")
def gate(service):
    """A gateway before `service`, for all tests of a file: one resource, `orders`."""
    with Gate({"orders": service}) as gate:
        yield gate


@pytest.fixture(scope="module")
def token(gate):
    """Everything on `orders`."""
    return gate.mint("orders")


@pytest.fixture(autouse=True)
def forget(request):
    """What one test sent is not what the next one looks at."""
    if "service" in request.fixturenames:
        service = request.getfixturevalue("service")
        service.clear()
        service.respond = service.default
    yield


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failure shows the last lines of the gateway's log."""
    outcome = yield
    report = outcome.get_result()
    if report.failed and call.when == "call":
        for value in getattr(item, "funcargs", {}).values():
            gate = value if isinstance(value, Gate) else getattr(value, "gate", None)
            if isinstance(gate, Gate) and gate.process:
                report.sections.append(("gateway log", "\n".join(gate.log.splitlines()[-4:])))
                break
