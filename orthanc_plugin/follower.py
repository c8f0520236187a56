"""The thread that reads the change log and publishes new X-rays.

One round: read the position, read the log from a little before it, keep the
X-rays, publish them in chunks, and only then move the cursor. Whatever fails
in between is done again by the next round; the workers bear duplicates.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from orthanc_plugin.broker import Broker, BrokerDown, Position
from orthanc_plugin.orthanc_api import Archive, Start
from orthanc_plugin.settings import Settings

PAGE = 500
"""Entries of the change log (or of the archive) read at once."""

COALESCE_SECONDS = 0.1
"""Least pause between two rounds: chunks fill while it lasts."""
BUSY_SECONDS = 1.0
"""The same after a round that found BUSY or more: the workers have enough to do, and reading on would slow ingest."""
BUSY = 4
"""New instances in a round; in rounds of 0.1 s, 40 a second."""

LONGEST_PAUSE_SECONDS = 30.0
LOW_MARK_PAGE = 32
"""Changes looked at in one step of the low mark: while it waits for the workers, that is all it costs."""
HOUSEKEEPING_SECONDS = 5.0
"""How often the low mark and the walk through the archive are looked after."""


class Follower(threading.Thread):
    """Follows one archive until `stop`.

    log: called with a line when something changes, never every round.
    """

    def __init__(self, archive: Archive, broker: Broker, settings: Settings, log: Callable[[str], None]) -> None:
        super().__init__(name="body-part-router", daemon=True)
        self._archive, self._broker, self._settings, self._log = archive, broker, settings, log
        self._event = threading.Event()
        self._stopping = threading.Event()
        self._trouble = ""
        self._housekept = 0.0
        self._busy = False
        self._idle_low_mark: int | None = None
        self.published = 0

    def wake(self) -> None:
        """Something arrived. Called in Orthanc's change thread: sets an event and returns."""
        self._event.set()

    def stop(self) -> None:
        """Ask the thread to end; it does within a few seconds even where Redis hangs."""
        self._stopping.set()
        self._event.set()

    def run(self) -> None:
        pause = self._settings.poll_seconds
        while not self._stopping.is_set():
            self._event.clear()
            try:
                self._follow()
                self._housekeep()
            except BrokerDown as error:
                self._say_trouble(f"Redis does not answer ({error}); images wait in Orthanc until it does")
                pause = min(LONGEST_PAUSE_SECONDS, max(1.0, pause * 2))
            except Exception as error:  # the thread must outlive anything that Orthanc answers
                self._say_trouble(f"{type(error).__name__}: {error}; trying again")
                pause = min(LONGEST_PAUSE_SECONDS, max(1.0, pause * 2))
            else:
                if self._trouble:
                    self._log("body-part router: following the change log again")
                self._trouble, pause = "", self._settings.poll_seconds
            if self._trouble:
                self._stopping.wait(pause)
            else:
                self._event.wait(pause)
                self._stopping.wait(BUSY_SECONDS if self._busy else COALESCE_SECONDS)
        self._broker.close()

    def _say_trouble(self, text: str) -> None:
        if text != self._trouble:
            self._trouble = text
            self._log(f"body-part router: {text}")

    # --- starting ------------------------------------------------------------

    def _first_start(self) -> Start:
        """The state in Orthanc's database; set here when this archive is met for the first time."""
        start = self._archive.read_start()
        if start is None:
            whole = self._settings.first_start == "whole-archive"
            start = Start(0 if whole else self._archive.last_change(), whole)
            self._archive.write_start(start)
            what = "the whole archive" if whole else f"images after change {start.low_mark}"
            self._log(f"body-part router: first start, judging {what}")
        return start

    def _position(self) -> Position:
        """Where to go on: the cursor, or the low mark where Redis has forgotten the cursor."""
        start = self._first_start()
        position = self._broker.position()
        last = self._archive.last_change()
        if position is not None and position.cursor <= last:
            return position
        why = "Redis has no cursor" if position is None else "the change log ends before the cursor"
        cursor = min(start.low_mark, last)
        self._log(f"body-part router: {why}; starting from change {cursor} of {last}")
        self._broker.restart_at(cursor, last)
        return Position(cursor, last, frozenset())

    # --- the change log --------------------------------------------------------

    def _follow(self) -> None:
        """Publish what the log holds beyond the cursor."""
        position = self._position()
        overlap = self._settings.overlap
        done = False
        while not done and not self._stopping.is_set():
            page = self._archive.new_instances(max(0, position.cursor - overlap), overlap + PAGE)
            fresh = [(number, one) for number, one in page.changes if number not in position.seen]
            self._busy = len(fresh) >= BUSY
            self._publish(self._worth_judging(fresh, position.replay))
            cursor = max(position.cursor, page.last)
            numbers = [number for number, _ in fresh]
            self._broker.move_to(cursor, position.replay, numbers, overlap)
            seen = frozenset(one for one in position.seen.union(numbers) if one > cursor - overlap)
            position = Position(cursor, position.replay, seen)
            done = page.done

    def _worth_judging(self, changes: Sequence[tuple[int, str]], replay: int) -> list[str]:
        ids = self._archive.to_judge([one for _, one in changes], self._settings.modalities)
        number = {one: n for n, one in changes}
        again = [one for one in ids if number[one] <= replay]
        judged = set(again) - set(self._archive.unjudged(again))
        return [one for one in ids if one not in judged]

    def _publish(self, ids: Sequence[str], *, backfill: bool = False) -> None:
        for start in range(0, len(ids), self._settings.chunk_size):
            chunk = ids[start : start + self._settings.chunk_size]
            self._broker.publish(chunk, backfill=backfill)
            self.published += len(chunk)

    # --- now and then ----------------------------------------------------------

    def _housekeep(self) -> None:
        now = time.monotonic()
        if now - self._housekept < HOUSEKEEPING_SECONDS:
            return
        self._housekept = now
        start = self._advance_low_mark(self._first_start())
        if start.walk:
            self._walk(start)

    def _advance_low_mark(self, start: Start) -> Start:
        """Move the low mark past all changes whose X-rays have verdicts.

        Where it stands still although nothing is queued, a message was lost
        on its way: what waits behind the mark is published again.
        """
        position = self._broker.position()
        mark = start.low_mark
        while position is not None and mark < position.cursor and not self._stopping.is_set():
            page = self._archive.new_instances(mark, LOW_MARK_PAGE)
            page_changes = [(n, one) for n, one in page.changes if n <= position.cursor]
            ids = self._archive.to_judge([one for _, one in page_changes], self._settings.modalities)
            waiting = set(self._archive.unjudged(ids))
            if waiting:
                mark = min(n for n, one in page_changes if one in waiting) - 1
                self._republish_lost(mark, [one for _, one in page_changes if one in waiting])
                break
            mark = min(page.last, position.cursor)
        if mark > start.low_mark:
            start = Start(mark, start.walk)
            self._archive.write_start(start)
        return start

    def _republish_lost(self, mark: int, ids: Sequence[str]) -> None:
        idle = not any(self._broker.queue_lengths().values())
        if idle and self._idle_low_mark == mark:
            self._log(f"body-part router: {len(ids)} images wait for a verdict and none is queued; queueing them again")
            self._publish(ids)
            self._idle_low_mark = None
        else:
            self._idle_low_mark = mark if idle else None

    def _walk(self, start: Start) -> None:
        """One stride of the walk through the older archive.

        Pages shift when something is deleted meanwhile, so the walk is
        repeated, each pass when the last one's work is done, until a whole
        pass meets nothing without a verdict.
        """
        offset = self._broker.walk_offset()
        lengths = self._broker.queue_lengths()
        if offset == 0 and any(lengths.values()):
            return
        clean = offset == 0
        while not self._stopping.is_set():
            count, waiting = self._archive.walk(self._settings.modalities, offset, PAGE)
            if count == 0:
                break
            self._publish(waiting, backfill=True)
            clean = clean and not waiting
            offset += count
            self._broker.set_walk_offset(offset)
            if self._event.is_set():  # new images go first
                self._follow()
        else:
            return
        self._broker.set_walk_offset(0)
        if clean:
            self._archive.write_start(Start(start.low_mark, False))
            self._log("body-part router: every stored X-ray has its verdict")
