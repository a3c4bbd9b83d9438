"""The compiled half: see `clients/python/src`."""

from datetime import datetime, timedelta
from typing import Any, List, Literal, Mapping, Optional, Sequence, Tuple, TypedDict, Union

from typing_extensions import Unpack

class PosternError(Exception):
    """Something was not done. `kind` is a stable word for programs; the text is for people."""

    kind: str

class VerifyError(PosternError):
    """A message is not authorised."""

    status: int
    #: Whether the same message may be sent again: `safe`, `unknown` or `no`.
    retry: str
    #: The problem document that a gateway would answer with, as JSON.
    problem: str
    www_authenticate: Optional[str]

class PublicKey:
    """A public root key."""

    def __new__(cls, text: str) -> "PublicKey": ...
    def __eq__(self, other: object) -> bool: ...
    def __hash__(self) -> int: ...

class SigningKey:
    """A root key: whoever has it can mint."""

    @staticmethod
    def generate() -> "SigningKey": ...
    @staticmethod
    def from_text(text: str) -> "SigningKey": ...
    def to_secret_text(self) -> str: ...
    @property
    def public_key(self) -> PublicKey: ...

class Capability:
    """A verified capability, good for the message that it was verified for."""

    @property
    def rights(self) -> List[Tuple[str, str]]: ...
    @property
    def short_id(self) -> str: ...
    @property
    def revocation_ids(self) -> List[str]: ...
    @property
    def expires_at(self) -> Optional[int]: ...
    @property
    def is_sealed(self) -> bool: ...
    @property
    def price(self) -> int: ...
    def holds(self, resource: str, method: str) -> bool: ...

class Options(TypedDict, total=False):
    """What a verifier may be told besides its resource and its keys."""

    leeway_seconds: int
    budget: Optional[int]
    mount: str
    believed: Union[str, Sequence[str], None]
    statement_keys: Union[str, Sequence[str], None]
    authorization: Literal["capability", "pass"]
    encoded_slash: Literal["refuse", "pass"]

class Verifier:
    """The compiled verifier. Applications use `postern.Verifier`."""

    def __new__(cls, resource: str, **options: Unpack[Options]) -> "Verifier": ...
    def set_keys(self, keys: Sequence[Tuple[int, PublicKey, bool]]) -> None: ...
    def set_unnumbered_keys(self, keys: Sequence[PublicKey]) -> None: ...
    def set_key_document(self, document: bytes) -> None: ...
    def revoke(self, ids: Sequence[str]) -> None: ...
    def needs_body(self, method: str, target: str, fields: Sequence[Tuple[str, str]]) -> bool: ...
    def verify(
        self,
        method: str,
        target: str,
        fields: Sequence[Tuple[str, str]],
        *,
        body: Optional[bytes] = None,
        peer: Optional[str] = None,
        scheme: str = "http",
        http_2: bool = False,
        now: Optional[int] = None,
    ) -> Capability: ...
    def check(self, token: str, facts: str) -> Capability: ...

Texts = Union[str, Sequence[str]]
Moment = Union[str, timedelta, datetime]

class Caveats(TypedDict, total=False):
    """Restrictions by name, as the command line's flags: several values are a list. Leave one out where it shall not restrict:
    `None` and an empty list are errors."""

    expires: Moment
    not_before: Moment
    method: Texts
    path: Texts
    query: Texts
    host: Texts
    client: Texts
    client_cert: Texts
    no_upgrade: bool
    max_body: Union[str, int]
    rpc: Texts
    tool: Texts
    arg: Texts
    grpc: Texts
    check: Texts

def mint(
    key: SigningKey, resources: Texts, *, allow: Texts = ..., key_id: int = 1, **caveats: Unpack[Caveats]
) -> str: ...
def attenuate(token: str, **caveats: Unpack[Caveats]) -> str: ...
def narrow(token: str, *, method: str, path: str, query: str = "", seconds: int = 60) -> str: ...
def seal(token: str) -> str: ...
def inspect(token: str, *, key: Optional[PublicKey] = None, key_id: int = 1) -> Mapping[str, Any]: ...
def lint(token: str) -> List[Mapping[str, Any]]: ...
def body_too_large(bytes_max: int) -> VerifyError: ...
def body_broken() -> VerifyError: ...
def rerouted() -> VerifyError: ...
def keys_unavailable() -> str: ...
def check_key_document(document: bytes) -> None: ...
