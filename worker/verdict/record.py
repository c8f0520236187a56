"""Writing verdicts into Orthanc: labels first, the commit mark last.

The labels of a series or a study are the union over the instances that are
there now. Labels of others are never touched: what is removed begins with our
prefix and is named by a verdict that we recorded, by a plan that we noted and
did not finish, or by the union that we noted on the series or study itself
(metadata BodyPartUnion). The last one is the only trace that a deleted
instance leaves: Orthanc's change log does not tell of deletions.

A worker may die between any two writes, and the chunk is then recorded again.
So the notes hold at least what may have been written, at every moment:

1. the plan of each instance (Redis), and on study and series the union that
   was noted before together with what is about to be written there;
2. labels of instances, of series and of the study;
3. the exact unions: only now does a label that was removed leave the note;
4. the verdicts, each of which commits its instance. An instance without one
   is recorded again, and a study whose verdicts are all there has exact unions;
5. the plans are forgotten.

A study is written before its series, and forgotten after them, so that every
series with a union lies in a study with one: `dicom-router remove` looks for
studies only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from worker.ledger import Ledger, StudyLock
from worker.orthanc_client import Archive, Level, Parent, Stored
from worker.verdict.decide import Verdict

NOTHING: frozenset[str] = frozenset()


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
        with self.ledger.study_lock(study) as lock:
            stored = {instance.id: instance for instance in self.archive.in_study(study)}
            new = {instance: verdict for instance, verdict in verdicts.items() if instance in stored}
            if new:
                self._record(_Writer(self.archive, lock), study, stored, new)
            self.ledger.forget_plan(list(verdicts))

    def _record(self, writer: _Writer, study: str, stored: Mapping[str, Stored], new: Mapping[str, Verdict]) -> None:
        wanted = {instance: frozenset(verdict.labels(self.prefix)) for instance, verdict in new.items()}
        carried = {name: self.own(instance.verdict) for name, instance in stored.items()} | wanted
        unions = self._unions(study, stored, carried)
        parents = self.archive.parents(unions)
        planned = self.ledger.plan({instance: sorted(labels) for instance, labels in wanted.items()})
        before = {name: self._written(stored[name], parents) | self._ours(planned.get(name, ())) for name in new}
        # What a study that was recorded before there were unions, or by a worker of that version, can have had.
        replaced = self._unions(study, {name: stored[name] for name in new}, before)

        for name, parent in _study_first(study, parents):
            writer.note_union(_level(study, name), parent, unions[name] | (parent.union or NOTHING))
        for instance, labels in wanted.items():
            writer.change("instance", instance, stored[instance].labels, labels, before[instance])
        for name, parent in parents.items():
            stale = replaced.get(name, NOTHING) | self._ours(parent.union or ())
            writer.change(_level(study, name), name, parent.labels, unions[name], stale)
        for name, parent in reversed(_study_first(study, parents)):
            # What stands there under another prefix is of an earlier setting, and stays noted.
            kept = (parent.union or NOTHING) - self._ours(parent.union or ())
            written = unions[name] | (parent.union or NOTHING)
            if unions[name] | kept != written:
                writer.write_union(_level(study, name), name, unions[name] | kept)
        for instance, verdict in new.items():
            writer.write_verdict(instance, verdict.answer, verdict.to_json(self.prefix))

    def remove(self, study: str, dry_run: bool = False) -> list[str]:
        """Take our labels and metadata out of one study; the instances that had a verdict.

        Also the unions of a study whose judged instances are all gone, and
        verdicts that cannot be read.
        """
        with self.ledger.study_lock(study) as lock:
            stored = {instance.id: instance for instance in self.archive.in_study(study)}
            recorded = [instance for instance in stored.values() if instance.has_record]
            if dry_run:
                return [instance.id for instance in recorded]
            writer = _Writer(self.archive, lock)
            parents = self.archive.parents({study, *(instance.series for instance in stored.values())})
            ours = {instance.id: self._written(instance, parents) for instance in recorded}
            unions = self._unions(study, {instance.id: instance for instance in recorded}, ours)
            for instance in recorded:
                writer.change("instance", instance.id, instance.labels, NOTHING, ours[instance.id])
            for name, parent in parents.items():
                stale = unions.get(name, NOTHING) | self._ours(parent.union or ())
                writer.change(_level(study, name), name, parent.labels, NOTHING, stale)
            for instance in recorded:
                writer.remove_verdict(instance.id)
            for name, parent in reversed(_study_first(study, parents)):
                if parent.has_union:
                    writer.write_union(_level(study, name), name, NOTHING)
            self.ledger.forget_plan(list(stored))
            return [instance.id for instance in recorded]

    def own(self, verdict: dict[str, Any] | None) -> frozenset[str]:
        """The labels of a verdict that are ours by their prefix."""
        return self._ours(verdict["labels"] if verdict else ())

    def _written(self, instance: Stored, parents: Mapping[str, Parent]) -> frozenset[str]:
        """Labels that a recorded verdict can have put on its instance.

        Of a verdict that cannot be read only the union of the series is left.
        """
        if instance.has_record and instance.verdict is None and instance.series in parents:
            return self._ours(parents[instance.series].union or ())
        return self.own(instance.verdict)

    def _ours(self, labels: Iterable[str]) -> frozenset[str]:
        return frozenset(label for label in labels if label.startswith(self.prefix))

    @staticmethod
    def _unions(
        study: str, stored: Mapping[str, Stored], carried: Mapping[str, frozenset[str]]
    ) -> dict[str, frozenset[str]]:
        """The labels of these instances (`carried`), united by series and for the study."""
        unions: dict[str, frozenset[str]] = {study: NOTHING}
        for name, instance in stored.items():
            unions[study] |= carried[name]
            unions[instance.series] = unions.get(instance.series, NOTHING) | carried[name]
        return unions


@dataclass(frozen=True)
class _Writer:
    """Writes to Orthanc while the lock of the study is ours. Raises BrokerUnavailable where it is lost."""

    archive: Archive
    lock: StudyLock

    def change(
        self, level: Level, resource: str, present: frozenset[str], wanted: frozenset[str], stale: frozenset[str]
    ) -> None:
        """Add the labels that are wanted and missing; remove those that are stale, present and not wanted."""
        for label in sorted(wanted - present):
            self.lock.keep()
            self.archive.add_label(level, resource, label)
        for label in sorted((stale - wanted) & present):
            self.lock.check()
            self.archive.remove_label(level, resource, label)

    def note_union(self, level: Level, parent: Parent, labels: frozenset[str]) -> None:
        """Note labels before they are written, where they are not noted yet."""
        if labels != (parent.union or NOTHING):
            self.lock.keep()
            self.archive.write_union(level, parent.id, labels)

    def write_union(self, level: Level, resource: str, labels: frozenset[str]) -> None:
        """Replace the note on a series or study by a smaller one; without labels, take it away."""
        self.lock.check()
        self.archive.write_union(level, resource, labels)

    def write_verdict(self, instance: str, body_part: str | None, verdict: dict[str, Any]) -> None:
        self.lock.keep()
        self.archive.write_verdict(instance, body_part, verdict)

    def remove_verdict(self, instance: str) -> None:
        self.lock.check()
        self.archive.remove_verdict(instance)


def _level(study: str, resource: str) -> Level:
    return "study" if resource == study else "series"


def _study_first(study: str, parents: Mapping[str, Parent]) -> list[tuple[str, Parent]]:
    return sorted(parents.items(), key=lambda item: item[0] != study)
