"""The thread that reads the change log and publishes new X-rays.

One round: read the position, read the log from a little before it, keep the
X-rays, publish them in chunks, and only then move the cursor. Whatever fails
in between is done again by the next round; workers skip what has a verdict.

The thread reads passwords from files, the archive's name and Redis itself, and
retries after growing pauses: any of them may be missing when Orthanc starts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from orthanc_plugin.broker import Broker, Position
from orthanc_plugin.errors import BadSetting, BrokerDown
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

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 30.0
"""After a round that failed: doubled with each that follows."""
LOW_MARK_PAGE = 32
"""Changes looked at in one step of the low mark: while it waits for the workers, that is all it costs."""
HOUSEKEEPING_SECONDS = 5.0
"""How often the low mark and the walk through the archive are looked after."""


class Follower(threading.Thread):
    """Follows one archive until `stop`.

    connect: makes the Broker; called in the thread, again after each failure, so that a file that has changed is
    read again. It may raise BadSetting, or whatever Orthanc raises.
    log: called with a line when something changes, never every round.
    trouble: why nothing is published at the moment; "" where all is well.
    """

    def __init__(
        self, archive: Archive, connect: Callable[[], Broker], settings: Settings, log: Callable[[str], None]
    ) -> None:
        super().__init__(name="body-part-router", daemon=True)
        self._archive, self._connect, self._settings, self._log = archive, connect, settings, log
        self._connected: Broker | None = None
        self._event = threading.Event()
        self._stopping = threading.Event()
        self._unsure = False  # whether the state was made here, and Redis not asked for its copy yet
        self.trouble = ""
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
        pause = 0.0
        while not self._stopping.is_set():
            self._event.clear()
            try:
                self._follow()
                self._housekeep()
            except BrokerDown as error:
                self._fail(f"{error.what}; images wait in Orthanc until it does")
            except BadSetting as error:
                self._fail(f"{error} Images wait in Orthanc until then")
            except Exception as error:  # whatever Orthanc answers, the thread must go on
                self._fail(f"{type(error).__name__}: {error}; trying again")
            else:
                if self.trouble:
                    self._log("body-part router: following the change log again")
                self.trouble, pause = "", 0.0
            if self.trouble:
                pause = min(LONGEST_PAUSE_SECONDS, max(FIRST_PAUSE_SECONDS, pause * 2))
                self._stopping.wait(pause)
            else:
                self._event.wait(self._settings.poll_seconds)
                self._stopping.wait(BUSY_SECONDS if self._busy else COALESCE_SECONDS)
        self._disconnect()

    def _fail(self, trouble: str) -> None:
        self._disconnect()
        if trouble != self.trouble:
            self.trouble = trouble
            self._log(f"body-part router: {trouble}")

    @property
    def _broker(self) -> Broker:
        if self._connected is None:
            self._connected = self._connect()
        return self._connected

    def _disconnect(self) -> None:
        if self._connected is not None:
            self._connected.close()
            self._connected = None

    # --- starting ------------------------------------------------------------

    def _known_start(self) -> Start:
        """The state in Orthanc's database; made here where it has none, also while Redis is away."""
        start = self._archive.read_start()
        if start is None:
            start = self._missing_start()
            self._archive.write_start(start)
            self._unsure = True
        if self._unsure:
            copy = self._broker.start()
            if copy is not None and copy.low_mark <= start.low_mark:
                self._log(f"body-part router: Redis has a copy of the low mark; going on from change {copy.low_mark}")
                start = copy
                self._archive.write_start(start)
            self._unsure = False
        return start

    def _missing_start(self) -> Start:
        """The state where Orthanc's database has none.

        Either this archive is met for the first time, or it had another DatabaseServerIdentifier before: PostgreSQL
        keeps a plugin's state for each (SQLite keeps one). Verdicts tell the two apart.
        """
        last = self._archive.last_change()
        if self._archive.holds_verdicts():
            start = Start(last, True)
            what = "Orthanc's database has verdicts, but no low mark; looking for what has none in the whole archive"
        elif self._settings.first_start == "whole-archive":
            start = Start(0, True)
            what = "first start, judging the whole archive"
        else:
            start = Start(last, False)
            what = f"first start, judging images after change {last}"
        self._log(f"body-part router: {what}")
        return start

    def _position(self) -> Position:
        """Where to go on: the cursor, or the low mark where Redis has forgotten the cursor."""
        start = self._known_start()
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
            fresh = [(number, instance) for number, instance in page.changes if number not in position.seen]
            self._busy = len(fresh) >= BUSY
            self._publish(self._archive.to_publish(fresh, self._settings.modalities, position.replay))
            cursor = max(position.cursor, page.last)
            numbers = [number for number, _ in fresh]
            self._broker.move_to(cursor, position.replay, numbers, overlap)
            seen = frozenset(number for number in position.seen.union(numbers) if number > cursor - overlap)
            position = Position(cursor, position.replay, seen)
            done = page.done

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
        start = self._advance_low_mark(self._known_start())
        self._broker.keep_start(start)
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
            changes = [(number, instance) for number, instance in page.changes if number <= position.cursor]
            ids = self._archive.to_judge([instance for _, instance in changes], self._settings.modalities)
            waiting = set(self._archive.unjudged(ids))
            if waiting:
                mark = min(number for number, instance in changes if instance in waiting) - 1
                self._republish_lost(mark, [instance for _, instance in changes if instance in waiting])
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
