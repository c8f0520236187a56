"""docker/compose.orthancteam.yaml, translated as the image translates it. The image itself is not run here."""

from __future__ import annotations

import json
import re
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import yaml

from orthanc_plugin.settings import Settings
from tests.end_to_end.test_other_orthancs import documented_section
from worker.contract import LABEL_PREFIX, RESERVED_NAMES
from worker.inference.classifier import Classifier
from worker.local.plugin_folder import SCRIPT
from worker.settings import Settings as WorkerSettings

FILE = Path(__file__).parents[1] / "docker" / "compose.orthancteam.yaml"

NOT_BY_RULE = {"POSTGRESQL": "PostgreSQL"}
"""Of orthanc-builder's env-var-non-standards.json, what the file uses."""


class Loader(yaml.SafeLoader):
    """Knows Compose's tags, which say how a value is merged with an earlier file's."""


for tag in ("!reset", "!override"):
    Loader.add_constructor(tag, lambda loader, node: _plain(loader, node))


def _plain(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return None


def in_words(value: str) -> str:
    """A value of the file with each ${NAME:-default} as its default."""
    return re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", value)


def path_of(variable: str) -> list[str]:
    """Where a variable goes: ORTHANC__DICOM_WEB__ROOT is DicomWeb.Root (the Orthanc Book, Docker images)."""
    words = variable.removeprefix("ORTHANC__").split("__")
    return [NOT_BY_RULE.get(word) or "".join(part[0] + part[1:].lower() for part in word.split("_")) for word in words]


def value_of(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def put(configuration: dict[str, Any], variable: str, text: str) -> None:
    *sections, key = path_of(variable)
    reduce(lambda inner, name: inner.setdefault(name, {}), sections, configuration)[key] = value_of(text)


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.load(FILE.read_text(encoding="utf-8"), Loader)["services"]
    return found


@pytest.fixture(scope="module")
def configuration(services: dict[str, Any]) -> dict[str, Any]:
    """Orthanc's configuration as the image makes it; each secret holds its own name."""
    made: dict[str, Any] = {}
    for variable, text in services["orthanc"]["environment"].items():
        put(made, variable, in_words(text))
    for secret in services["orthanc"]["secrets"]:
        if isinstance(secret, dict):
            put(made, secret["target"], secret["source"])
    return made


def test_the_rule_is_the_one_of_the_book() -> None:
    assert path_of("ORTHANC__STABLE_AGE") == ["StableAge"]
    assert path_of("ORTHANC__DICOM_WEB__STUDIES_METADATA") == ["DicomWeb", "StudiesMetadata"]


def test_the_plugin_reads_what_the_documented_section_says(configuration: dict[str, Any]) -> None:
    documented = documented_section()
    assert configuration["PythonScript"] == documented["PythonScript"]
    assert configuration["Python"] == documented["Python"]
    assert configuration["UserMetadata"] == documented["UserMetadata"]
    assert Settings.from_orthanc(configuration) == Settings(
        redis_url="redis://redis:6379/0", redis_password_file="/run/secrets/redis_password", archive="dicom-router"
    )
    assert configuration["DatabaseServerIdentifier"] == "dicom-router"


def test_the_folder_is_mounted_where_the_script_is_named(
    services: dict[str, Any], configuration: dict[str, Any]
) -> None:
    [volume] = services["orthanc"]["volumes"]
    source, target, mode = in_words(volume).split(":")
    assert (source, mode) == ("../build/orthanc-body-part-router", "ro")
    assert configuration["PythonScript"] == f"{target}/{SCRIPT}"


def test_passwords_come_from_secrets_alone(services: dict[str, Any], configuration: dict[str, Any]) -> None:
    assert configuration["PostgreSQL"]["Password"] == "postgres_password"
    user = services["worker"]["environment"]["DICOM_ROUTER_ORTHANC_USERNAME"]
    assert configuration["RegisteredUsers"] == {user: "orthanc_password"}
    assert "redis_password" in services["orthanc"]["secrets"]
    assert not [
        variable for variable in services["orthanc"]["environment"] if variable.endswith(("PASSWORD", "_SECRET"))
    ]


def test_the_labels_to_open_orthanc_explorer_2_for_are_ours(configuration: dict[str, Any]) -> None:
    assert configuration["OrthancExplorer2"] == {"UiOptions": {"EnableMultiLabelsSearch": True}}
    [(variable, text)] = re.findall(r"# (ORTHANC__\w+AVAILABLE_LABELS): '(.*)'", FILE.read_text(encoding="utf-8"))
    assert path_of(variable) == ["OrthancExplorer2", "UiOptions", "AvailableLabels"]
    nodes = Classifier.from_settings(WorkerSettings()).card.tree.nodes
    assert json.loads(text) == [LABEL_PREFIX + name for name in (*sorted(nodes), *sorted(RESERVED_NAMES))]
