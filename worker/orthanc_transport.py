"""One exchange with Orthanc's REST API, and what counts as an answer of Orthanc.

Between a worker and Orthanc there may be a reverse proxy, which answers in
Orthanc's place: with a login page, an error page, a redirection, or half a
file. An image must not be blamed for such an answer, and nothing may be taken
for written because of it. So every answer is compared with what the API
promises for the request, and what differs is ArchiveUnavailable:

====================  ==========================================================================
request               promise (Orthanc 1.12.7 and 1.13.0)
====================  ==========================================================================
a question            200, JSON of the shape that the caller names
the file              200, `application/dicom`, with an end that can be known
a write               200 with an empty body
what is not there     404, empty (`HttpDescribeErrors` is off) or JSON with `OrthancStatus`;
                      from our plugin, JSON with `error`
====================  ==========================================================================
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from worker.errors import ArchiveUnavailable, BadInput
from worker.settings import Settings

if TYPE_CHECKING:
    import httpx

Call = Callable[[], "httpx.Response"]

LOST_FILE_CODES = frozenset({13, 15, 20, 2006})
"""Orthanc's error codes for a stored file that is missing (13, 2006), of another format (15) or damaged (20)."""

PROXY_REMEDY = "look at what stands between the worker and Orthanc, such as a reverse proxy, and at Orthanc's log"


# --- shapes of answers: the parts that the worker reads; Orthanc sends more ------


class System(BaseModel):
    """`/system`."""

    version: str = Field(alias="Version")
    identifier: str = Field(alias="DatabaseServerIdentifier")
    capabilities: dict[str, Any] = Field({}, alias="Capabilities")
    user_metadata: dict[str, int] = Field({}, alias="UserMetadata")


class Resource(BaseModel):
    """A patient's study, series or instance. Without labels where the database keeps none."""

    id: str = Field(alias="ID")
    labels: list[str] = Field([], alias="Labels")
    metadata: dict[str, str] = Field({}, alias="Metadata")
    tags: dict[str, Any] = Field({}, alias="MainDicomTags")


class Instance(Resource):
    """An instance with its parent."""

    series: str = Field(alias="ParentSeries")


class Series(Resource):
    """A series with its parent."""

    study: str = Field(alias="ParentStudy")


class Uploaded(BaseModel):
    """The answer to one uploaded file."""

    id: str = Field(alias="ID")


class Count(BaseModel):
    """The answer of `/tools/count-resources`."""

    count: int = Field(alias="Count")


class PluginStatus(BaseModel):
    """`/body-part-router/status`: what every version of the plugin tells."""

    following: bool
    redis: str
    modalities: list[str]
    last_change: int | None
    cursor: int | None


@cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(shape)


class Transport:
    """Sends requests to one Orthanc; safe to use from several threads.

    url: the address without user and password, as errors show it.
    """

    def __init__(self, settings: Settings) -> None:
        import httpx
        from pyorthanc import Orthanc

        certificates = settings.certificates()
        self.url = settings.orthanc_url.rstrip("/")
        self.client = Orthanc(
            self.url,
            settings.orthanc_username or None,
            settings.password() or None,
            return_raw_response=True,
            timeout=httpx.Timeout(settings.orthanc_timeout, connect=min(5.0, settings.orthanc_timeout)),
            verify=ssl.create_default_context(cafile=certificates) if certificates else True,
            trust_env=False,
        )

    def close(self) -> None:
        self.client.close()

    def json(self, call: Call, shape: Any) -> Any:
        """The JSON value of an answer, checked against `shape` and otherwise as Orthanc sent it.

        shape: a type that pydantic can check, such as `list[Instance]`.
        """
        value = self.json_or_none(call, shape)
        if value is None:
            raise ArchiveUnavailable(f"Orthanc at {self.url} has no such route", "install Orthanc 1.12.5 or later")
        return value

    def json_or_none(self, call: Call, shape: Any, *, refusal_is_bad_input: bool = False) -> Any:
        """The same; None for 404."""
        response = self.send(call, refusal_is_bad_input=refusal_is_bad_input)
        if response is None:
            return None
        try:
            value = json.loads(response.content)
            _adapter(shape).validate_python(value)
        except ValidationError as error:
            # The text of pydantic quotes the answer, which may hold a patient's data.
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise self.broken_promise(
                response, f"JSON of another shape ({where or 'the value'}: {first['type']})"
            ) from None
        except (ValueError, RecursionError):
            raise self.broken_promise(response, "something else than JSON") from None
        return value

    def file(self, call: Call) -> bytes | None:
        """The DICOM file of an answer, None for 404. Raises BadInput where Orthanc has lost the file."""
        response = self.send(call, lost_is_bad_input=True)
        if response is None:
            return None
        if _media_type(response) != "application/dicom":
            raise self.broken_promise(response, "something else than a DICOM file")
        length = response.headers.get("Content-Length")
        chunked = "chunked" in response.headers.get("Transfer-Encoding", "").lower()
        if length is None and not chunked:
            raise self.broken_promise(response, "a file of unknown length, which may be cut off")
        if length is not None and "Content-Encoding" not in response.headers and int(length) != len(response.content):
            raise self.broken_promise(response, f"{len(response.content)} of {length} bytes")
        return response.content

    def write(self, call: Call, *, conflict_is_answer: bool = False) -> httpx.Response | None:
        """A change that Orthanc confirms with an empty body; None where the resource is gone."""
        response = self.send(call, conflict_is_answer=conflict_is_answer)
        if response is not None and response.status_code < 300 and response.content:
            raise self.broken_promise(response, "a page instead of a confirmation")
        return response

    def send(
        self,
        call: Call,
        *,
        lost_is_bad_input: bool = False,
        refusal_is_bad_input: bool = False,
        conflict_is_answer: bool = False,
    ) -> httpx.Response | None:
        """One exchange: the response of status 2xx, or None for 404."""
        import httpx

        try:
            response = call()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ArchiveUnavailable(
                f"Orthanc at {self.url} does not answer ({type(error).__name__})",
                "start it, or set DICOM_ROUTER_ORTHANC_URL",
            ) from error
        status = response.status_code
        if 200 <= status < 300 or (conflict_is_answer and status == 409):
            return response
        if status in (401, 403):
            raise ArchiveUnavailable(
                f"Orthanc at {self.url} refuses the credentials (HTTP {status})",
                "set DICOM_ROUTER_ORTHANC_USERNAME and DICOM_ROUTER_ORTHANC_PASSWORD",
            )
        if not _speaks_as_orthanc(response):
            raise self.broken_promise(response, "an error that is not Orthanc's")
        if status == 404:
            return None
        if lost_is_bad_input and _error_code(response) in LOST_FILE_CODES:
            raise BadInput("Orthanc's own storage has lost or damaged this file", "restore it from a backup")
        if refusal_is_bad_input and 400 <= status < 500:
            raise BadInput(
                f"Orthanc refuses the file (HTTP {status}): it is no DICOM file, or a broken one",
                "send a whole DICOM file",
            )
        raise ArchiveUnavailable(f"Orthanc at {self.url} answers HTTP {status}", "look at its log")

    def broken_promise(self, response: httpx.Response, got: str) -> ArchiveUnavailable:
        """The error for an answer that is not what the API promises. Nothing of the body is quoted."""
        kind = _media_type(response) or "no content type"
        return ArchiveUnavailable(
            f"{self.url} answers HTTP {response.status_code} with {got} ({kind}, {len(response.content)} bytes)",
            PROXY_REMEDY,
        )


def _media_type(response: httpx.Response) -> str:
    return str(response.headers.get("Content-Type", "")).partition(";")[0].strip().lower()


def _speaks_as_orthanc(response: httpx.Response) -> bool:
    """Whether an error comes from Orthanc or our plugin; an empty body may be Orthanc's."""
    return not response.content or bool({"OrthancStatus", "error"} & set(_error_body(response)))


def _error_code(response: httpx.Response) -> int | None:
    try:
        return int(_error_body(response)["OrthancStatus"])
    except (ValueError, KeyError, TypeError):
        return None


def _error_body(response: httpx.Response) -> dict[str, Any]:
    try:
        body = json.loads(response.content)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}
