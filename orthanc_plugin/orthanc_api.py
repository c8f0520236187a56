"""What the plugin asks of the Orthanc that it runs in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from worker.contract import LABEL_PREFIX, LOW_MARK_PROPERTY, VERDICT_KEY, VERDICT_NAME, load_verdict

LABELS_LOOKED_AT = 100
"""Labels by which verdicts are looked for, one small query each, where the database cannot find metadata."""


class Orthanc(Protocol):
    """The part of the `orthanc` module that is used here."""

    def RestApiGet(self, uri: str) -> bytes: ...
    def RestApiPost(self, uri: str, body: str) -> bytes: ...
    def GetGlobalProperty(self, number: int, default: str) -> str: ...
    def SetGlobalProperty(self, number: int, value: str) -> None: ...


@dataclass(frozen=True)
class Page:
    """A piece of the change log: (number, instance id) pairs, and where it ends.

    last: the number up to which the log has been read.
    done: whether the log held no more.
    """

    changes: list[tuple[int, str]]
    last: int
    done: bool


@dataclass(frozen=True)
class Start:
    """What the plugin keeps in Orthanc's own database.

    low_mark: change number up to which every X-ray has its verdict.
    walk: whether the walk through the older archive is still to be done.
    """

    low_mark: int
    walk: bool


class Archive:
    """Reads Orthanc's REST API from inside, without HTTP."""

    def __init__(self, orthanc: Orthanc) -> None:
        self._orthanc = orthanc
        self._filters_changes: bool | None = None

    def identifier(self) -> str:
        """Orthanc's DatabaseServerIdentifier: the archive's name where the settings give none."""
        return str(self._get("/system")["DatabaseServerIdentifier"])

    def last_change(self) -> int:
        """The newest number of the change log, 0 where it is empty."""
        return int(self._get("/changes?last")["Last"])

    def new_instances(self, since: int, limit: int) -> Page:
        """Changes of type NewInstance with a number above `since`."""
        if self._filters_changes is None:
            self._filters_changes = self._can("HasExtendedChanges")
        # Some databases refuse the filter: Debian's PostgreSQL plugin (5.0) does.
        only = "&type=NewInstance" if self._filters_changes else ""
        answer = self._get(f"/changes?since={since}&limit={limit}{only}")
        kept = [(int(c["Seq"]), str(c["ID"])) for c in answer["Changes"] if c["ChangeType"] == "NewInstance"]
        return Page(kept, int(answer["Last"]), bool(answer["Done"]))

    def to_judge(self, ids: Sequence[str], modalities: Iterable[str]) -> list[str]:
        """Those of these instances whose series is of an X-ray modality, or names none.

        Where the modality is missing the worker looks at the file itself.
        Deleted instances are left out. The order is kept.
        """
        wanted, kept = set(modalities), set()
        for series in self._bulk(ids, "Series"):
            if series["MainDicomTags"].get("Modality", "").strip() in wanted | {""}:
                kept.update(series["Instances"])
        return [instance for instance in ids if instance in kept]

    def to_publish(self, changes: Sequence[tuple[int, str]], modalities: Iterable[str], replay: int) -> list[str]:
        """Those of these changes' instances that workers are to judge, in the order of the changes.

        changes: (number, instance id) pairs. replay: up to this number, what has a verdict is left out.
        """
        ids = self.to_judge([instance for _, instance in changes], modalities)
        number = {instance: n for n, instance in changes}
        again = [instance for instance in ids if number[instance] <= replay]
        judged = set(again) - set(self.unjudged(again))
        return [instance for instance in ids if instance not in judged]

    def exists(self, instance: str) -> bool:
        """Whether this Orthanc holds the instance."""
        return bool(self._bulk([instance], "Instance"))

    def unjudged(self, ids: Sequence[str]) -> list[str]:
        """Those of these instances that exist and carry no verdict that can be read. The order is kept."""
        found = self._bulk(ids, "Instance", metadata=True)
        kept = {instance["ID"] for instance in found if not _has_verdict(instance)}
        return [instance for instance in ids if instance in kept]

    def holds_verdicts(self) -> bool:
        """Whether any instance carries a verdict, readable or not.

        Asked once, where Orthanc's database has no state of ours. One query where the database finds metadata
        (0.4 s for a million instances without a verdict, in SQLite). Elsewhere (Debian's PostgreSQL plugin 5.0)
        verdicts are looked for behind at most LABELS_LOOKED_AT labels, those with the default prefix first: every
        verdict but `not_an_xray` comes with a label.
        """
        if self._can("HasExtendedFind"):
            # By number: a name would have to be registered.
            return bool(self._post("/tools/find", {**_FIRST_INSTANCE, "MetadataQuery": {str(VERDICT_KEY): "*"}}))
        labels = sorted(self._get("/tools/labels"), key=lambda label: not label.startswith(LABEL_PREFIX))
        for label in labels[:LABELS_LOOKED_AT]:
            labelled = {"Labels": [label], "LabelsConstraint": "All", "ResponseContent": ["Metadata"]}
            if any(_record(found) is not None for found in self._post("/tools/find", {**_FIRST_INSTANCE, **labelled})):
                return True
        return False

    def walk(self, modalities: Iterable[str], since: int, limit: int) -> tuple[int, list[str]]:
        """One page of all stored X-ray instances: (how many there were, those without a verdict)."""
        query = {
            "Level": "Instance",
            "Query": {"Modality": "\\".join(modalities)},
            "ResponseContent": ["Metadata"],
            "Since": since,
            "Limit": limit,
        }
        found = self._post("/tools/find", query)
        return len(found), [instance["ID"] for instance in found if not _has_verdict(instance)]

    def read_start(self) -> Start | None:
        """The state in Orthanc's database, None before the first start."""
        text = self._orthanc.GetGlobalProperty(LOW_MARK_PROPERTY, "")
        if not text:
            return None
        value = json.loads(text)
        return Start(int(value["low_mark"]), bool(value["walk"]))

    def write_start(self, start: Start) -> None:
        """Replace the state in Orthanc's database."""
        text = json.dumps({"low_mark": start.low_mark, "walk": start.walk})
        self._orthanc.SetGlobalProperty(LOW_MARK_PROPERTY, text)

    def _can(self, capability: str) -> bool:
        return bool(self._get("/system").get("Capabilities", {}).get(capability))

    def _bulk(self, ids: Sequence[str], level: str, metadata: bool = False) -> list[dict[str, Any]]:
        if not ids:
            return []
        found = self._post("/tools/bulk-content", {"Resources": list(ids), "Level": level, "Metadata": metadata})
        return list(found)

    def _get(self, uri: str) -> Any:
        return json.loads(self._orthanc.RestApiGet(uri))

    def _post(self, uri: str, body: Any) -> Any:
        return json.loads(self._orthanc.RestApiPost(uri, json.dumps(body)))


_FIRST_INSTANCE = {"Level": "Instance", "Query": {}, "Limit": 1}


def _record(instance: dict[str, Any]) -> str | None:
    """The recorded verdict as text, None where there is none."""
    # Listed by number where the administrator has not registered the name.
    metadata = instance.get("Metadata", {})
    text = metadata.get(VERDICT_NAME, metadata.get(str(VERDICT_KEY)))
    return None if text is None else str(text)


def _has_verdict(instance: dict[str, Any]) -> bool:
    """Whether there is a verdict that can be read, as the worker asks before it judges an image again."""
    return load_verdict(_record(instance)) is not None
