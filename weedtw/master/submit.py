"""`/submit`: a file id and the upload to it in one request."""

import json
from typing import Any

import attrs

from weedtw.errors import BadRequest, PeerError
from weedtw.http.agent import PeerAgent, PeerResponse
from weedtw.http.requests import Params, Request
from weedtw.http.tokens import Tokens
from weedtw.master.assign import Assigner, Wish

LEAST_TIMEOUT = 30.0  # seconds for a volume server to take a file and its copies
LEAST_PACE = 1 << 20  # bytes a second: a large file gets as many seconds more as it takes at that pace
ANSWER_LIMIT = 1 << 20  # bytes

_PASSED_ON = ("Content-Type", "Content-Encoding", "Content-Disposition", "Content-MD5")
_UPLOAD_PARAMETERS = ("ttl", "ts", "cm", "fsync")


@attrs.define(eq=False)
class Submitter:
    """Assigns an id to the body of a request and passes the body on to a volume server."""

    assigner: Assigner
    peers: PeerAgent
    tokens: Tokens

    async def submit(self, request: Request, params: Params, wish: Wish) -> dict[str, Any]:
        """What `/submit` answers; raises BadRequest without a file, and what assigning and uploading raise."""
        kind = (request.header("Content-Type") or "").partition(";")[0].strip().lower()
        if not request.content.size:
            raise BadRequest("there is no file in the request; send it as multipart/form-data or as the body")
        if kind == "multipart/form-data" and "boundary=" not in (request.header("Content-Type") or "").lower():
            raise BadRequest("the multipart/form-data has no boundary")
        assignment = await self.assigner.assign(wish)
        fid = str(assignment.file_id)
        response = await self.peers.request(
            "POST",
            assignment.server.address,
            f"/{fid}",
            {name: params.text(name) for name in _UPLOAD_PARAMETERS if name in params},
            headers=_headers(request) | self.tokens.headers(assignment.file_id, writes=True),
            body=[request.body],
            timeout=LEAST_TIMEOUT + request.content.size / LEAST_PACE,
        )
        stored = await _stored(response)
        return {
            "eTag": stored.get("eTag", ""),
            "fid": fid,
            "fileName": stored.get("name", ""),
            "fileUrl": f"{assignment.server.public_url}/{fid}",
            "size": stored.get("size", 0),
        }


async def _stored(response: PeerResponse) -> dict[str, Any]:
    """What a volume server says of the file it took; raises PeerError with its status when it did not."""
    body = await response.read(ANSWER_LIMIT)
    try:
        said = json.loads(body)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise PeerError(response.address, f"its answer {response.status} to an upload is not JSON", response.status)
    if response.status >= 300:
        raise PeerError(response.address, str(said.get("error", f"answered {response.status}")), response.status)
    return said


def _headers(request: Request) -> dict[str, str]:
    headers = {name: value for name in _PASSED_ON if (value := request.header(name)) is not None}
    for raw, values in request.requestHeaders.getAllRawHeaders():
        name = raw.decode("latin-1")
        if name.lower().startswith("seaweed-"):
            headers[name] = values[0].decode("utf-8", "replace")
    return headers
