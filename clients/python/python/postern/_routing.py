"""The target that a message is verified for: the one that the application routes on, or none.

Servers keep the target as it came, and make a path of it for the application. A field such as ``SCRIPT_NAME`` (which gunicorn
believes of a peer on this machine), a rule that rewrites, or another middleware can have them make another path than the one that
came. So what came is verified only where it decodes to what the application gets, below the mount that the operator named.
"""

from __future__ import annotations

from typing import FrozenSet, Iterable, Optional
from urllib.parse import quote_from_bytes, unquote_to_bytes

from ._postern import rerouted

#: What stands unescaped in a path of canonical form.
SAFE = "/!$&'()*+,;=:@-._~"


def raw_below(raw: Optional[bytes], mount: bytes, path: bytes) -> str:
    """The path below the mount as it came. ``path`` is the same decoded, as the application routes on it; ``raw`` is None where
    the server does not keep what came. A proxy may have taken the mount off ``raw`` already.
    """
    if raw is None:
        return quote_from_bytes(path, safe=SAFE) or "/"
    for taken in (quote_from_bytes(mount, safe=SAFE).encode(), b""):
        if raw.startswith(taken) and unquote_to_bytes(raw[len(taken) :]) == path:
            return raw[len(taken) :].decode("latin-1") or "/"
    raise rerouted()


def mount_of(option: str, prefix: str) -> str:
    """Reads the option: where the application is mounted in its server."""
    if prefix and not prefix.startswith("/"):
        raise TypeError(f"{option} is where the application is mounted, such as \"/orders\", or empty; not {prefix!r}")
    return prefix.rstrip("/")


def exempt_paths(paths: Iterable[str]) -> FrozenSet[str]:
    """Reads the option. In a text that is taken for a list of paths, every part of it would be exempt."""
    if isinstance(paths, (str, bytes)):
        raise TypeError(f"exempt is a collection of paths, not one text: write exempt={{{paths!r}}}")
    found = frozenset(paths)
    for path in found:
        if not isinstance(path, str) or not path.startswith("/"):
            raise TypeError(f"exempt holds paths such as \"/health\", and not {path!r}")
    return found
