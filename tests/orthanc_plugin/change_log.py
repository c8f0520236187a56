"""The `orthanc` module over a change log in memory, and a follower of it with a real Redis."""

from __future__ import annotations

import base64
import json
from typing import Any

import redis

from orthanc_plugin.broker import Broker
from orthanc_plugin.follower import Follower
from orthanc_plugin.orthanc_api import Archive
from orthanc_plugin.settings import Settings
from worker.contract import CLASSIFY_QUEUE


class ChangeLog:
    """The `orthanc` module over a change log in memory, as a database with several writers commits it.

    changes: number to (instance id, modality). last: what the log says of its end.
    filters: whether it can be asked for one type of change; where it cannot, it holds others too.
    finds_metadata: whether the database can. judged: instances with a verdict, and with the label bp-other.
    verdict: the text of each. down: it answers nothing.
    """

    filters = True
    finds_metadata = True
    verdict = '{"outcome": "judged", "labels": ["bp-other"]}'
    down = False

    def __init__(self) -> None:
        self.changes: dict[int, tuple[str, str]] = {}
        self.last = 0
        self.properties: dict[int, str] = {}
        self.judged: set[str] = set()

    def commit(self, number: int, modality: str = "CR") -> str:
        self.changes[number] = (f"instance-{number}", modality)
        self.last = max(self.last, number)
        return f"instance-{number}"

    def judge(self, *numbers: int) -> None:
        self.judged.update(self.changes[number][0] for number in numbers)

    def RestApiGet(self, uri: str) -> bytes:
        if self.down:
            raise RuntimeError("the database is away")
        if uri == "/changes?last":
            return json.dumps({"Last": self.last}).encode()
        if uri == "/system":
            can = {"HasExtendedChanges": self.filters, "HasExtendedFind": self.finds_metadata}
            return json.dumps({"Capabilities": can, "DatabaseServerIdentifier": "made-up"}).encode()
        if uri == "/tools/labels":
            return json.dumps(["urgent", *(["bp-other"] if self.judged else [])]).encode()
        query = dict(pair.split("=") for pair in uri.partition("?")[2].split("&"))
        since, limit = int(query["since"]), int(query["limit"])
        found = [n for n in sorted(self.changes) if n > since]
        page = found[:limit]
        done = len(page) == len(found)
        entries = [{"Seq": n, "ID": self.changes[n][0], "ChangeType": "NewInstance"} for n in page]
        if "type" in query:
            assert self.filters, "Orthanc answers this with an error"
        else:
            entries += [{"Seq": n, "ID": self.changes[n][0], "ChangeType": "UpdatedMetadata"} for n in page]
        return json.dumps({"Changes": entries, "Done": done, "Last": self.last if done else page[-1]}).encode()

    def RestApiPost(self, uri: str, body: str) -> bytes:
        if self.down:
            raise RuntimeError("the database is away")
        question = json.loads(body)
        known = dict(self.changes.values())
        if uri == "/tools/find":
            found = list(known)
            if "MetadataQuery" in question:
                assert self.finds_metadata, "Orthanc answers this with an error"
                found = [instance for instance in found if instance in self.judged]
            if "Labels" in question:
                found = [
                    instance for instance in found if question["Labels"] == ["bp-other"] and instance in self.judged
                ]
            since = question.get("Since", 0)
            answer: list[Any] = [self._instance(instance) for instance in found[since : since + question["Limit"]]]
        elif question["Level"] == "Series":
            ids = [instance for instance in question["Resources"] if instance in known]
            answer = [{"MainDicomTags": {"Modality": known[instance]}, "Instances": [instance]} for instance in ids]
        else:
            answer = [self._instance(instance) for instance in question["Resources"] if instance in known]
        return json.dumps(answer).encode()

    def _instance(self, instance: str) -> dict[str, Any]:
        return {"ID": instance, "Metadata": {"BodyPartVerdict": self.verdict} if instance in self.judged else {}}

    def GetGlobalProperty(self, number: int, default: str) -> str:
        return self.properties.get(number, default)

    def SetGlobalProperty(self, number: int, value: str) -> None:
        self.properties[number] = value


def messages(client: redis.Redis, queue: str = CLASSIFY_QUEUE) -> list[dict[str, Any]]:
    """The messages of a queue, the oldest first."""
    raw = client.lrange(queue, 0, -1)[::-1]
    bodies = [json.loads(base64.b64decode(json.loads(text)["body"])) for text in raw]
    return [body[1]["message"] for body in bodies]


class Site:
    """A follower of a change log, what it has published, and what it has logged."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.log = ChangeLog()
        self.lines: list[str] = []
        self.settings = Settings(redis_url=url, **settings)
        self.redis = redis.Redis.from_url(url)
        self.flush()
        self.restart()

    def connect(self) -> Broker:
        return self.broker

    def flush(self) -> None:
        self.redis.flushall()

    def restart(self) -> None:
        self.broker = Broker(self.settings.redis_url, "db")
        self.follower = Follower(Archive(self.log), self.connect, self.settings, self.lines.append)

    def round(self) -> None:
        """One round of the follower, in this thread."""
        self.follower._follow()

    def messages(self, queue: str = CLASSIFY_QUEUE) -> list[list[str]]:
        """The ids of each message, the oldest first."""
        return [message["ids"] for message in messages(self.redis, queue)]

    def published(self) -> list[str]:
        return [instance for ids in self.messages() for instance in ids]

    def close(self) -> None:
        self.broker.close()
        self.redis.close()
