"""Refusals as RFC 9457 problems, as the gateway writes them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import List, Mapping, Optional, Tuple

from ._postern import PosternError

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True)
class Problem:
    """What a gateway or a backend says when it refuses. ``type`` is the stable word."""

    type: str
    status: int
    title: str
    detail: str
    #: Whether repeating the same message is safe: ``safe``, ``unknown`` or ``no``; ``None`` where nobody says.
    retry: Optional[str] = None
    #: The whole document, where there is more in it: the caveats that failed.
    document: Optional[str] = None
    #: The challenge that goes with it.
    www_authenticate: Optional[str] = None

    @classmethod
    def of_error(cls, error: PosternError) -> "Problem":
        """The answer to an exception of this package. What is not the caller's fault is a 503."""
        document = getattr(error, "problem", None)
        if document is not None:
            said = json.loads(document)
            return cls(said["type"], said["status"], said["title"], said["detail"], None, document, error.www_authenticate)
        status, kind = getattr(error, "status", None) or 503, getattr(error, "kind", None) or "unavailable"
        return cls(kind, status, "The message cannot be verified", str(error))

    @classmethod
    def of_response(cls, headers: Mapping[str, str], body: bytes) -> Optional["Problem"]:
        """Reads a problem from a response; ``None`` where it is none."""
        media_type = next((value for name, value in headers.items() if name.lower() == "content-type"), "")
        if media_type.partition(";")[0].strip().lower() != MEDIA_TYPE:
            return None
        try:
            document = json.loads(body)
            return cls(str(document["type"]), int(document["status"]), str(document.get("title", "")),
                       str(document.get("detail", "")), document.get("retry"))
        except (ValueError, KeyError, TypeError):
            return None

    def answer(self) -> Tuple[int, List[Tuple[str, str]], bytes]:
        """Status, fields and body of the answer."""
        document = self.document or json.dumps({"type": self.type, "title": self.title, "status": self.status, "detail": self.detail})
        body = document.encode()
        fields = [("content-type", MEDIA_TYPE), ("content-length", str(len(body))), ("cache-control", "no-store")]
        if self.www_authenticate is not None:
            fields.append(("www-authenticate", self.www_authenticate))
        if self.status == 503:
            fields.append(("retry-after", "1"))
        return self.status, fields, body
