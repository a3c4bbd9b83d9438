"""Exceptions that are raised on this side of the border: each has a ``kind``, as those of the compiled half have."""

from __future__ import annotations

from ._postern import PosternError


def failed(kind: str, reason: str) -> PosternError:
    """What was asked for cannot be done."""
    error = PosternError(reason)
    error.kind = kind
    return error
