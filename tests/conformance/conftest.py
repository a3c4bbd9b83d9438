"""One site for all tables: starting a gateway per row would test nothing more."""

import pytest

from conformance.cases import Site
from harness.backend import Recorder
from harness.gate import Gate


@pytest.fixture(scope="session")
def site():
    with Recorder() as service:
        resources = {
            "orders": {"upstream": service},
            "forbidden": {"upstream": service},
            "slashes": {"upstream": service, "encoded_slash": "pass"},
            "small": {"upstream": service, "max_body": "1KiB"},
        }
        with Gate(resources, limits={"first_byte_timeout": "2s", "head_timeout": "3s"}) as gate:
            token = gate.mint("orders", "--allow", "GET,POST", "--path", "/allowed", "--path", "/allowed/**")
            yield Site(service, gate, token, gate.mint("orders", "slashes", "small"))
