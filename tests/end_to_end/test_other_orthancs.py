"""The assembled plugin folder in other people's Orthanc: Debian 13's and Debian forky's."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import orthanc_plugin
from tests.end_to_end.conftest import Running
from tests.helpers import eventually, fresh
from worker.errors import ConfigError
from worker.local.plugin_folder import SCRIPT
from worker.local.processes import Child, free_port
from worker.local.programs import DEBIAN_13, DEBIAN_FORKY, OrthancProgram, Tree, private_orthanc, private_root

LEG = "RG3_J2KI.dcm"
Site = Callable[..., Running]


def documented_section() -> dict[str, Any]:
    """The configuration that the plugin's README gives."""
    text = (Path(orthanc_plugin.__file__).parent / "README.md").read_text(encoding="utf-8")
    found = re.search(r"```json\n(.*?)```", text, re.DOTALL)
    assert found
    section: dict[str, Any] = json.loads(found[1])
    return section


@pytest.fixture(params=[DEBIAN_13, DEBIAN_FORKY], ids=lambda tree: tree.suite)
def tree(request: pytest.FixtureRequest) -> Tree:
    try:
        private_root(request.param)
    except ConfigError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"{error}")
    found: Tree = request.param
    return found


@pytest.fixture
def program(tree: Tree) -> OrthancProgram:
    return private_orthanc(tree)


def test_it_is_added_to_an_archive_with_users_and_images(
    own_site: Site, program: OrthancProgram, plugin_folder: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("p@ss word\n")
    theirs = {"RegisteredUsers": {"router": "p@ss word"}, "AuthenticationEnabled": True, "RemoteAccessAllowed": True}
    environment = {"DICOM_ROUTER_ORTHANC_USERNAME": "router", "DICOM_ROUTER_ORTHANC_PASSWORD_FILE": str(secret)}
    both = {"program": program, "orthanc": theirs, "environment": environment}

    before = own_site(start=False, with_plugin=False, **both)
    before.stack.start_orthanc()
    old = before.upload(fresh(LEG), fresh(LEG))
    before.stack.stop()

    site = own_site(plugin_folder=plugin_folder, plugin={"FirstStart": "whole-archive"}, **both)
    [new] = site.upload(fresh(LEG))
    verdicts = site.verdicts([*old, new])
    assert {verdict["body_part"] for verdict in verdicts.values()} == {"other"}
    assert all(site.labels(site.stored(instance).study) == {"bp-other"} for instance in (*old, new))
    assert site.metadata(new)["BodyPart"] == "other"
    assert new in site.find(Level="Instance", MetadataQuery={"BodyPart": "other"})

    site.stack.stop_orthanc()
    log = (site.stack.layout.data / "orthanc.log").read_text(errors="replace")
    assert log.count("Orthanc has stopped") == 2
    site.stack.start_orthanc()
    [later] = site.upload(fresh(LEG))
    site.verdicts([later])
    assert site.archive.reclassify(later)
    eventually(lambda: sum(site.ledger.inferences().values()) == 5)
    status = site.archive.plugin_status()
    assert status is not None
    assert (status["following"], status["redis"]) == (True, "ok")


def test_debians_own_configuration_takes_it_as_documented(tree: Tree, plugin_folder: Path, tmp_path: Path) -> None:
    """And every package of the folder can be imported in that Orthanc's Python, beside a script of the site's own."""
    program = private_orthanc(tree)
    own_script = tmp_path / "of_the_site.py"  # not site.py: Python has such a module
    own_script.write_text(
        "import importlib, pathlib, sys\n"
        "import orthanc\n"
        f"folder = pathlib.Path({str(plugin_folder)!r})\n"
        "sys.path += [str(folder), str(folder / 'lib')]\n"
        "names = {path.stem for path in (folder / 'lib').iterdir() if path.suffix != '.dist-info'}\n"
        "for name in names: importlib.import_module(name)\n"
        "from orthanc_plugin.wiring import register\n"
        "register()\n"
        "orthanc.LogWarning(f'{len(names)} packages imported in Python {sys.version}')\n"
    )
    section = documented_section()
    assert section["PythonScript"].endswith(f"/{SCRIPT}")
    section["PythonScript"] = str(own_script)
    section["BodyPartRouter"]["RedisUrl"] = f"redis://127.0.0.1:{free_port()}/0"
    metadata = json.dumps(section.pop("UserMetadata"))
    section.pop("Plugins")  # Debian's configuration has it

    folder = tmp_path / "etc"
    shutil.copytree(private_root(tree) / "etc/orthanc", folder)
    for name in ("worklists.json", "serve-folders.json"):
        (folder / name).unlink()
    (folder / "python.json").write_text(json.dumps(section))
    for path in folder.glob("*.json"):
        text = path.read_text(encoding="utf-8")
        text = re.sub(r'"UserMetadata" : \{.*?\}', f'"UserMetadata" : {metadata}', text, flags=re.DOTALL)
        for key, value in {
            "HttpPort": free_port(),
            "DicomPort": free_port(),
            "StorageDirectory": str(tmp_path),
            "IndexDirectory": str(tmp_path),
        }.items():
            text = re.sub(rf'^(\s*)"{key}" : [^,\n]+', rf'\1"{key}" : {json.dumps(value)}', text, flags=re.MULTILINE)
        text = text.replace('"/usr/share/orthanc/plugins/"', json.dumps(str(program.python_plugin)))
        path.write_text(text, encoding="utf-8")

    orthanc = Child("Orthanc", [*program.command, str(folder)], {**os.environ, **program.env}, tmp_path / "log")
    try:
        orthanc.wait_until(lambda: "Orthanc has started" in orthanc.output(), 60)
        expected = {"trixie": "3.13", "forky": "3.14"}[tree.suite]
        assert re.search(rf"\d\d packages imported in Python {re.escape(expected)}\.", orthanc.output())
        orthanc.wait_until(lambda: "body-part router: Redis does not answer" in orthanc.output(), 20)
    finally:
        orthanc.stop(20)
    assert "Orthanc has stopped" in orthanc.output()
