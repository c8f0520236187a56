"""Writing verdicts into Orthanc: labels first, the commit mark last.

A study's labels are the union over its instances. Labels of others are never
touched: what is removed begins with our prefix and is named by a verdict that
we recorded, or by a plan that we noted and did not finish.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from worker.ledger import Ledger
from worker.orthanc_client import Archive, Level, Stored
from worker.verdict.decide import Verdict


@dataclass(frozen=True)
class Recorder:
    """Records verdicts in one archive under one label prefix."""

    archive: Archive
    ledger: Ledger
    prefix: str

    def record(self, study: str, verdicts: Mapping[str, Verdict]) -> None:
        """Write the verdicts of instances of one study; instances that are gone are passed over.

        Raises ArchiveUnavailable or BrokerUnavailable; doing it again is harmless.
        """
        with self.ledger.study_lock(study):
            stored = {one.id: one for one in self.archive.in_study(study)}
            new = {one: verdict for one, verdict in verdicts.items() if one in stored}
            if not new:
                return
            wanted = {one: frozenset(verdict.labels(self.prefix)) for one, verdict in new.items()}
            planned = self.ledger.plan({one: sorted(labels) for one, labels in wanted.items()})
            stale = {one: self.own(stored[one].verdict, planned.get(one, ())) - wanted[one] for one in new}
            for one in new:
                self._change("instance", one, stored[one].labels, wanted[one], stale[one])
            self._unite(study, stored, wanted, frozenset().union(*stale.values()))
            for one, verdict in new.items():
                self.archive.write_verdict(one, verdict.answer, verdict.to_json(self.prefix))
            self.ledger.forget_plan(list(new))

    def remove(self, study: str, dry_run: bool = False) -> list[str]:
        """Take our labels and metadata out of one study; the instances that had a verdict."""
        with self.ledger.study_lock(study):
            stored = {one.id: one for one in self.archive.in_study(study)}
            judged = [one for one in stored.values() if one.verdict is not None]
            if dry_run or not judged:
                return [one.id for one in judged]
            ours = {one.id: self.own(one.verdict) for one in judged}
            for one in judged:
                self._change("instance", one.id, one.labels, frozenset(), ours[one.id])
            nothing: dict[str, frozenset[str]] = {one.id: frozenset() for one in judged}
            self._unite(study, stored, nothing, frozenset().union(*ours.values()))
            for one in judged:
                self.archive.remove_verdict(one.id)
            return [one.id for one in judged]

    def own(self, verdict: dict[str, Any] | None, planned: Iterable[str] = ()) -> frozenset[str]:
        """Labels that we wrote for an instance, by its verdict and by unfinished plans."""
        recorded = verdict.get("labels", []) if verdict else []
        return frozenset(one for one in (*recorded, *planned) if str(one).startswith(self.prefix))

    def _unite(
        self,
        study: str,
        stored: Mapping[str, Stored],
        wanted: Mapping[str, frozenset[str]],
        stale: frozenset[str],
    ) -> None:
        """Bring the labels of the touched series and of the study to the unions over their instances."""
        unions: dict[str, set[str]] = {study: set()}
        for one in stored.values():
            labels = wanted[one.id] if one.id in wanted else self.own(one.verdict)
            unions[study] |= labels
            unions.setdefault(one.series, set()).update(labels)
        touched = {stored[one].series for one in wanted}
        for resource, labels in self.archive.labels([study, *touched]).items():
            level: Level = "study" if resource == study else "series"
            self._change(level, resource, labels, frozenset(unions[resource]), stale)

    def _change(
        self, level: Level, resource: str, present: frozenset[str], wanted: frozenset[str], stale: frozenset[str]
    ) -> None:
        for label in sorted(wanted - present):
            self.archive.add_label(level, resource, label)
        for label in sorted((stale - wanted) & present):
            self.archive.remove_label(level, resource, label)
