"""Tokens that let somebody read, or write and delete, one file for a while: JSON Web Tokens as SeaweedFS has them.

HS256, with the claims `fid` and `exp`.  A master signs them for the ids that it assigns or looks up, a volume server
asks for them: as `Authorization: Bearer …`, as the parameter `jwt`, or as the cookie `AT`.  A token for an id is good
for those that are counted from it (`_1`, `_2`, …).  Without a key nothing is asked for.
"""

import re
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import attrs

from weedtw.config.security import SecurityConfig
from weedtw.errors import BadFileId, BadRequest, Unauthorized
from weedtw.formats.fileid import FileId, parse_path
from weedtw.http.requests import Request, query

if TYPE_CHECKING:
    from jwt import PyJWT

_BEARER: Final = "bearer "
_COOKIE: Final = "AT"
_COUNTED: Final = re.compile(r"_[0-9]+(?=$|[./])")
_ALGORITHM: Final = "HS256"


@attrs.define(eq=False)
class Tokens:
    """Signs and checks; `now` tells unix seconds."""

    config: SecurityConfig
    now: Callable[[], float]
    _jwt: Any = attrs.field(default=None, init=False)

    @property
    def guard_writes(self) -> bool:
        """Whether a token is needed to write or delete."""
        return bool(self.config.write_key)

    @property
    def guard_reads(self) -> bool:
        """Whether a token is needed to read."""
        return bool(self.config.read_key)

    # ------------------------------------------------------------------ signing

    def for_writing(self, file_id: FileId) -> str:
        """A token to write and delete that file; "" when none is needed."""
        return self._sign(file_id, self.config.write_key, self.config.write_seconds)

    def for_reading(self, file_id: FileId) -> str:
        """A token to read that file; "" when none is needed."""
        return self._sign(file_id, self.config.read_key, self.config.read_seconds)

    def headers(self, file_id: FileId, *, writes: bool) -> dict[str, str]:
        """The header that lets a server of this cluster do it; none when none is needed."""
        return bearer(self.for_writing(file_id) if writes else self.for_reading(file_id))

    def _sign(self, file_id: FileId, key: str, seconds: int) -> str:
        if not key:
            return ""
        claims = {"exp": int(self.now()) + seconds, "fid": str(file_id)}
        return str(self._library().encode(claims, key, _ALGORITHM))

    # ------------------------------------------------------------------ checking

    def check(self, request: Request, path: str) -> None:
        """Raise Unauthorized unless the request may do what it asks of the file that `path`, decoded, names."""
        reads = request.method in {b"GET", b"HEAD"}
        key = self.config.read_key if reads else self.config.write_key
        if not key or request.method == b"OPTIONS":
            return
        try:
            file_id = parse_path(_COUNTED.sub("", path)).file_id
        except BadFileId:
            return  # there is no such file; that is said elsewhere
        token = token_of(request)
        if not token:
            raise Unauthorized("there is no token")
        if self._named_in(token, key) != file_id:
            raise Unauthorized("the token is for another file")

    def _named_in(self, token: str, key: str) -> FileId:
        library = self._library()
        try:
            claims = library.decode(
                token, key, [_ALGORITHM], {"require": ["exp"], "verify_exp": False, "verify_iat": False}
            )
            expires, fid = claims["exp"], claims["fid"]
            if type(expires) not in {int, float} or not isinstance(fid, str):
                raise Unauthorized("the token is not one of a file")
            named = FileId.parse(fid)
        except (self._wrong(), KeyError, BadFileId):
            raise Unauthorized("the token is not one of this cluster for a file") from None
        if self.now() >= expires:
            raise Unauthorized("the token has expired")
        return named

    def _library(self) -> "PyJWT":
        """PyJWT, imported when the first token is seen; a key that is too short is its owner's business."""
        if self._jwt is None:
            from jwt import PyJWT  # noqa: PLC0415 - see above

            warnings.filterwarnings("ignore", message="The HMAC key is")
            self._jwt = PyJWT()
        made: PyJWT = self._jwt
        return made

    @staticmethod
    def _wrong() -> type[Exception]:
        from jwt import PyJWTError  # noqa: PLC0415 - see above

        return PyJWTError


def bearer(token: str) -> dict[str, str]:
    """The header that brings a token to a server; none for the token "", which is that nothing is asked for."""
    return {"Authorization": f"Bearer {token}"} if token else {}


def token_of(request: Request) -> str:
    """The token that a request brings, wherever; "" when there is none."""
    if b"jwt=" in request.uri:
        try:
            token = query(request).text("jwt")
        except BadRequest:
            token = ""
        if token:
            return token
    header = request.header("Authorization") or ""
    if header[: len(_BEARER)].lower() == _BEARER:
        return header[len(_BEARER) :].strip()
    cookies = (cookie.strip().partition("=") for cookie in (request.header("Cookie") or "").split(";"))
    return next((value for name, _, value in cookies if name == _COOKIE), "")
