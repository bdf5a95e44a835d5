"""Whether a browser asks at the wish of somebody else's page, which an endpoint that changes something refuses.

A page of any origin can have its reader's browser send requests to where the reader can reach, also behind a
firewall and within a white list.  Browsers tell: by `Sec-Fetch-Site`, by `Origin`, or at least by `Referer`.  And a
page may give its own name the address of a server here (DNS rebinding), to be of the same origin: so a browser has to
know the server by an address, as localhost, or by a name that the server has.  Programs other than browsers, which
nobody's page makes do anything, are let pass.
"""

import ipaddress
from collections.abc import Collection, Mapping
from typing import Final
from urllib.parse import unquote_to_bytes, urlsplit

from weedtw.errors import ForeignOrigin, Unauthorized
from weedtw.http.requests import Request

_SITE: Final = "Sec-Fetch-Site"
_OWN_SITES: Final = frozenset({"same-origin", "none"})  # a page of ours, or the user himself
_TOLD_BY: Final = (_SITE, "Origin", "Referer")
_BROWSER: Final = "Mozilla/"  # what all of them claim to be


def may_be_browser(fields: Mapping[bytes, str]) -> bool:
    """Whether headers, by lower-case name, may be those of a request that `check_origin` refuses."""
    told = b"sec-fetch-site" in fields or b"origin" in fields or b"referer" in fields
    return told or fields.get(b"user-agent", "").startswith(_BROWSER)


def check_origin(request: Request, names: Collection[str] = ()) -> None:
    """Raise ForeignOrigin for what another origin's page asks; `names` are hosts, in lower case, that we go by."""
    site, origin, referer = map(request.header, _TOLD_BY)
    is_browser = (request.header("User-Agent") or "").startswith(_BROWSER)
    if site is None and origin is None and referer is None and not is_browser:
        return
    if site is not None and site not in _OWN_SITES:
        raise ForeignOrigin(origin or referer or site)
    host = (request.header("Host") or "").lower()
    for said in (origin, referer):
        if said is not None and _authority(said) != host:
            raise ForeignOrigin(said)
    if not _is_ours(_name(host), names):
        raise ForeignOrigin(host)


def _authority(url: str) -> str:
    """`host:port` as in Host; "" of `null` and of what is no URL."""
    try:
        return urlsplit(url).netloc.rpartition("@")[2].lower()
    except ValueError:
        return ""


def _name(host: str) -> str:
    """A host without its port and brackets."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_ours(name: str, names: Collection[str]) -> bool:
    if name == "localhost" or name in names:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def check_secret(request: Request) -> None:
    """Raise Unauthorized unless the caller has shown that it knows the cluster's secret, where there is one."""
    if request.channel.site.wants_proof and not request.channel.is_proven:
        what = "the cluster's secret" if request.channel.site.secret else "a certificate of the cluster's authority"
        raise Unauthorized(f"this takes {what}; have the command find the security.toml of the cluster")


def is_below(path: bytes, folder: bytes) -> bool:
    """Whether a path as it was sent is below `/FOLDER/`, written in whatever way."""
    return unquote_to_bytes(path).startswith(folder)


def is_admin(path: bytes) -> bool:
    """Whether a path as it was sent is below `/admin/`, written in whatever way."""
    return is_below(path, b"/admin/")
