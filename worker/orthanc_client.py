"""Orthanc as the worker sees it, through pyorthanc. No decisions here.

Every method raises ArchiveUnavailable where Orthanc does not answer or
refuses; a resource that is gone is a value (None, or left out), not an error.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from worker.contract import (
    BODY_PART_KEY,
    ROUTES,
    VERDICT_KEY,
    VERDICT_NAME,
    dump_verdict,
    load_verdict,
)
from worker.errors import ArchiveUnavailable, BadInput
from worker.settings import Settings

if TYPE_CHECKING:
    import httpx

log = logging.getLogger(__name__)

Level = Literal["instance", "series", "study"]
PLURALS: dict[Level, str] = {"instance": "instances", "series": "series", "study": "studies"}
PAGE = 500

LOST_FILE_CODES = frozenset({13, 15, 20, 2006})
"""Orthanc's error codes for a stored file that is missing (13, 2006), of another format (15) or damaged (20)."""


@dataclass(frozen=True)
class Stored:
    """What Orthanc knows of one instance.

    verdict: the recorded one, parsed, or None. study, modality: "" where not asked for.
    """

    id: str
    series: str
    labels: frozenset[str]
    verdict: dict[str, Any] | None
    study: str = ""
    modality: str = ""


class Archive:
    """One Orthanc. Keeps its connections alive; safe to use from several threads."""

    def __init__(self, settings: Settings) -> None:
        import httpx
        from pyorthanc import Orthanc

        certificates = settings.certificates()
        self.url = settings.orthanc_url.rstrip("/")
        self._client = Orthanc(
            self.url,
            settings.orthanc_username or None,
            settings.password() or None,
            return_raw_response=True,
            timeout=httpx.Timeout(settings.orthanc_timeout, connect=min(5.0, settings.orthanc_timeout)),
            verify=ssl.create_default_context(cafile=certificates) if certificates else True,
            trust_env=False,
        )

    def close(self) -> None:
        self._client.close()

    def system(self) -> dict[str, Any]:
        """Orthanc's version, capabilities and database identifier."""
        return dict(self._json(self._client.get_system))

    def identifier(self) -> str:
        """The archive's name in messages and Redis keys, as the plugin gives it.

        Orthanc's DatabaseServerIdentifier where it runs without the plugin, or with one that tells no name.
        """
        response = self._send(partial(self._client.get, f"{self.url}{ROUTES}/status", params={"only": "archive"}))
        try:
            status = {} if response is None else dict(response.json())
        except (TypeError, ValueError) as error:
            raise ArchiveUnavailable(
                f"{self.url}{ROUTES}/status answers what is no status", "look at what stands between here and Orthanc"
            ) from error
        if "archive" not in status:
            return str(self.system()["DatabaseServerIdentifier"])
        if status["archive"] is None:
            raise ArchiveUnavailable(
                f"the plugin of Orthanc at {self.url} cannot tell the archive's name ({status.get('trouble', '')})",
                "set BodyPartRouter.Archive, or look at Orthanc's log",
            )
        return str(status["archive"])

    # --- instances -------------------------------------------------------------

    def describe(self, ids: Sequence[str]) -> dict[str, Stored]:
        """Those of these instances that exist, by id, with their study."""
        instances = self._bulk({"Resources": list(ids), "Level": "Instance", "Metadata": True}) if ids else []
        series = self._bulk({"Resources": list(ids), "Level": "Series", "Metadata": False}) if ids else []
        parents = {one["ID"]: (one["ParentStudy"], one["MainDicomTags"].get("Modality", "")) for one in series}
        return {
            one["ID"]: _stored(one, *parents[one["ParentSeries"]])
            for one in instances
            if one["ParentSeries"] in parents  # else deleted between the two questions
        }

    def fetch(self, instance: str) -> bytes | None:
        """The DICOM file, None where the instance is gone. Raises BadInput where Orthanc has lost the file."""
        response = self._send(partial(self._client.get_instances_id_file, instance), lost_is_bad_input=True)
        return None if response is None else response.content

    def upload(self, data: bytes) -> str:
        """Store a file; its instance id. Raises BadInput where Orthanc refuses it."""
        answer = self._send(partial(self._client.post_instances, data), refusal_is_bad_input=True)
        value = answer.json() if answer is not None else []
        if not isinstance(value, dict):
            raise BadInput("Orthanc took the file for an archive of files, or for nothing; send single DICOM files.")
        return str(value["ID"])

    def in_study(self, study: str) -> list[Stored]:
        """All instances of a study with their labels and verdicts."""
        return list(self._find_instances({"ParentStudy": study, "Query": {}}, study))

    def with_verdict(self) -> Iterator[Stored]:
        """Every instance that carries a verdict."""
        # By number: a name is understood only where the administrator has registered it.
        query = {"MetadataQuery": {str(VERDICT_KEY): "*"}} if self._finds_metadata() else {}
        for one in self._find_instances({"Query": {}, **query}):
            if one.verdict is not None:
                yield one

    def without_verdict(self, modalities: Iterable[str]) -> Iterator[Stored]:
        """Every instance of an X-ray modality that carries none."""
        for one in self._find_instances({"Query": {"Modality": "\\".join(modalities)}}):
            if one.verdict is None:
                yield one

    def count_without_verdict(self, modalities: Iterable[str]) -> int:
        """How many instances of these modalities carry no verdict.

        Counted by the database where it has extended find, else here, instance by instance.
        """
        if not self._finds_metadata():
            log.debug("the database has no extended find: X-rays without a verdict are counted one by one")
            return sum(1 for _ in self.without_verdict(modalities))
        query = {"Modality": "\\".join(modalities)}
        # Both counts ask for the modality: what is no X-ray can carry a verdict (not_an_xray). The pattern leaves
        # out values that load_verdict cannot read. Those with a verdict first: what arrives meanwhile has none.
        judged = self._count("Instance", Query=query, MetadataQuery={str(VERDICT_KEY): '*"outcome"*'})
        return max(0, self._count("Instance", Query=query) - judged)

    def with_metadata(self, name: str, value: str) -> Iterator[Stored]:
        """Every instance whose metadata of this name (as registered in Orthanc) has this value."""
        query = {"MetadataQuery": {name: value}} if self._finds_metadata() else {}
        for one in self._find({"Query": {}, **query}):
            if query or one["Metadata"].get(name) == value:
                yield _stored(one, "")

    def with_label(self, label: str, level: Level) -> Iterator[list[Stored]]:
        """The instances of each resource of a level that carries a label."""
        if level == "instance":
            for one in self._find_instances({"Query": {}, "Labels": [label], "LabelsConstraint": "All"}):
                yield [one]
            return
        parent = {"series": "ParentSeries", "study": "ParentStudy"}[level]
        for resource in self.find_label(label, level):
            yield list(self._find_instances({parent: resource["ID"], "Query": {}}))

    def _finds_metadata(self) -> bool:
        """Whether the database answers queries of metadata; Debian's PostgreSQL plugin (5.0) refuses them."""
        return bool(self.system().get("Capabilities", {}).get("HasExtendedFind"))

    def _find_instances(self, query: dict[str, Any], study: str = "") -> Iterator[Stored]:
        return (_stored(one, study) for one in self._find(query))

    def _find(self, query: dict[str, Any]) -> Iterator[dict[str, Any]]:
        since = 0
        while True:
            body = {"Level": "Instance", "ResponseContent": ["Labels", "Metadata", "Parent"], **query}
            found = self._json(partial(self._client.post_tools_find, json={**body, "Since": since, "Limit": PAGE}))
            yield from found
            if len(found) < PAGE:
                return
            since += len(found)

    # --- labels and metadata -----------------------------------------------------

    def labels(self, resources: Sequence[str]) -> dict[str, frozenset[str]]:
        """Labels of these resources, whatever their levels; those that are gone are left out."""
        found = self._bulk({"Resources": list(resources), "Metadata": False}) if resources else []
        return {one["ID"]: frozenset(one["Labels"]) for one in found}

    def add_label(self, level: Level, resource: str, label: str) -> None:
        call = getattr(self._client, f"put_{PLURALS[level]}_id_labels_label")
        self._send(partial(call, resource, label))

    def remove_label(self, level: Level, resource: str, label: str) -> None:
        call = getattr(self._client, f"delete_{PLURALS[level]}_id_labels_label")
        self._send(partial(call, resource, label))

    def write_verdict(self, instance: str, body_part: str | None, verdict: dict[str, Any]) -> None:
        """Write the metadata BodyPart and, last, BodyPartVerdict: the commit mark."""
        if body_part is None:
            self._remove_metadata(instance, BODY_PART_KEY)
        else:
            self._write_metadata(instance, BODY_PART_KEY, body_part)
        self._write_metadata(instance, VERDICT_KEY, dump_verdict(verdict))

    def remove_verdict(self, instance: str) -> None:
        """Take both metadata out again, the commit mark first."""
        self._remove_metadata(instance, VERDICT_KEY)
        self._remove_metadata(instance, BODY_PART_KEY)

    def _write_metadata(self, instance: str, key: int, value: str) -> None:
        # By number: it works whether or not the administrator has registered the name.
        url = f"{self.url}/instances/{instance}/metadata/{key}"
        response = self._send(partial(self._client.put, url, content=value), conflict_is_answer=True)
        if response is not None and response.status_code == 409:  # CheckRevisions is on
            self._send(partial(self._client.put, url, content=value, headers=self._revision(url)))

    def _remove_metadata(self, instance: str, key: int) -> None:
        url = f"{self.url}/instances/{instance}/metadata/{key}"
        response = self._send(partial(self._client.delete, url), conflict_is_answer=True)
        if response is not None and response.status_code == 409:
            self._send(partial(self._client.delete, url, headers=self._revision(url)))

    def _revision(self, url: str) -> dict[str, str]:
        current = self._send(partial(self._client.get, url))
        return {} if current is None else {"If-Match": current.headers.get("ETag", "")}

    # --- questions -----------------------------------------------------------------

    def find_label(self, label: str, level: Level) -> list[dict[str, Any]]:
        """Resources of a level that carry a label, as Orthanc describes them."""
        body = {"Level": level.capitalize(), "Query": {}, "Labels": [label], "LabelsConstraint": "All", "Expand": True}
        return list(self._json(partial(self._client.post_tools_find, json=body)))

    def all_labels(self) -> list[str]:
        """Every label that is in use."""
        return list(self._json(partial(self._client.get, f"{self.url}/tools/labels")))

    def count_label(self, label: str, level: Level) -> int:
        """How many resources of a level carry a label."""
        return self._count(level.capitalize(), Query={}, Labels=[label])

    def _count(self, level: str, **question: Any) -> int:
        body = {"Level": level, **question}
        return int(self._json(partial(self._client.post, f"{self.url}/tools/count-resources", json=body))["Count"])

    def plugin_status(self) -> dict[str, Any] | None:
        """The plugin's own status, None where Orthanc runs without it."""
        answer = self._send(partial(self._client.get, f"{self.url}{ROUTES}/status"))
        return None if answer is None else dict(answer.json())

    def reclassify(self, instance: str) -> bool:
        """Ask the plugin to queue an instance again; False where there is none such."""
        url = f"{self.url}{ROUTES}/instances/{instance}/reclassify"
        return self._send(partial(self._client.post, url)) is not None

    # --- transport -------------------------------------------------------------------

    def _bulk(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        return list(self._json(partial(self._client.post_tools_bulk_content, json=body)))

    def _json(self, call: Callable[[], httpx.Response]) -> Any:
        response = self._send(call)
        if response is None:
            raise ArchiveUnavailable(f"{self.url} has no such route; Orthanc 1.12.5 or later is needed.")
        return response.json()

    def _send(
        self,
        call: Callable[[], httpx.Response],
        *,
        lost_is_bad_input: bool = False,
        refusal_is_bad_input: bool = False,
        conflict_is_answer: bool = False,
    ) -> httpx.Response | None:
        """One exchange: the response, or None for 404."""
        import httpx

        try:
            response = call()
        except httpx.HTTPError as error:
            raise ArchiveUnavailable(
                f"Orthanc at {self.url} does not answer ({type(error).__name__}); "
                "start it, or set DICOM_ROUTER_ORTHANC_URL."
            ) from error
        status = response.status_code
        if status == 404:
            return None
        if status < 400 or (conflict_is_answer and status == 409):
            return response
        if status in (401, 403):
            raise ArchiveUnavailable(
                f"Orthanc at {self.url} refuses the credentials (HTTP {status}); "
                "set DICOM_ROUTER_ORTHANC_USERNAME and DICOM_ROUTER_ORTHANC_PASSWORD."
            )
        if lost_is_bad_input and _error_code(response) in LOST_FILE_CODES:
            raise BadInput("Orthanc's own storage has lost or damaged this file; restore it from a backup.")
        if refusal_is_bad_input and status < 500:
            raise BadInput(f"Orthanc refuses the file (HTTP {status}): it is no DICOM file, or a broken one.")
        raise ArchiveUnavailable(f"Orthanc at {self.url} answers HTTP {status}; look at its log.")


def _stored(one: dict[str, Any], study: str, modality: str = "") -> Stored:
    metadata = one.get("Metadata", {})
    text = metadata.get(VERDICT_NAME, metadata.get(str(VERDICT_KEY)))
    return Stored(one["ID"], one["ParentSeries"], frozenset(one.get("Labels", ())), load_verdict(text), study, modality)


def _error_code(response: httpx.Response) -> int | None:
    try:
        return int(response.json()["OrthancStatus"])
    except (ValueError, KeyError, TypeError):
        return None
