"""Commands, options, targets, settings, files and links that the documents name exist."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from orthanc_plugin import settings as plugin
from tests.docs.documents import (
    ROOT,
    anchors,
    blocks,
    commands,
    comments,
    documents,
    inline_code,
    links,
    name_of,
    shell_blocks,
)
from train.cli import main as train
from worker.cli import main as worker
from worker.settings import PREFIX, Settings

PROGRAMS: dict[str, click.Command] = {"dicom-router": worker, "dicom-router-train": train}

LANGUAGES = {"sh", "bash", "shell", "json", "toml", "mermaid"}

MADE_LATER = ("docker/secrets", "docker/.env", "docker/orthanc/conf.d/", "docker/models/mine.onnx")
"""Files that the commands of the documents make."""

each_document = pytest.mark.parametrize("document", documents(), ids=name_of)


def shell_of(document: Path) -> list[list[str]]:
    """All commands that a document names, in blocks and in its text."""
    code = [text for text in inline_code(document) if re.match(r"(dicom-router|make|docker/|python -m) ?", text)]
    return [words for text in [*(block.text for block in shell_blocks(document)), *code] for words in commands(text)]


def unknown(command: click.Command, words: list[str]) -> Iterator[str]:
    """What a command line names and `command` does not know."""
    known = {"-h": False, "--help": False}
    takes_value = False
    learn(command, known)
    for word in words:
        if takes_value:
            takes_value = False
        elif word.startswith("-"):
            name, _, value = word.partition("=")
            if name not in known:
                yield f"{command.name} has no option {name}"
            takes_value = known.get(name, False) and not value
        elif isinstance(command, click.Group):
            found = command.commands.get(word)
            if found is None:
                yield f"{command.name} has no command {word}"
                return
            command = found
            learn(command, known)
        else:
            yield from not_a_choice(command, word)


def learn(command: click.Command, known: dict[str, bool]) -> None:
    """Add the options of a command to `known`: name -> whether a value follows."""
    for option in command.params:
        if isinstance(option, click.Option):
            known.update(dict.fromkeys([*option.opts, *option.secondary_opts], not option.is_flag))


def not_a_choice(command: click.Command, word: str) -> Iterator[str]:
    """A word where the command's only argument is a choice among others."""
    arguments = [each for each in command.params if isinstance(each, click.Argument)]
    if len(arguments) == 1 and isinstance(arguments[0].type, click.Choice) and word not in arguments[0].type.choices:
        yield f"{command.name} does not know {word}"
    if not arguments:
        yield f"{command.name} takes no argument, such as {word}"


def test_the_check_sees_what_does_not_exist() -> None:
    assert list(unknown(worker, ["find", "other", "--level", "study"])) == []
    assert list(unknown(worker, ["find", "other", "--levels"])) == ["find has no option --levels"]
    assert list(unknown(worker, ["seek", "other"])) == ["dicom-router has no command seek"]
    assert list(unknown(worker, ["status", "all"])) == ["status takes no argument, such as all"]


@each_document
def test_commands_and_options_exist(document: Path) -> None:
    problems = [
        f"{' '.join(words)}: {problem}"
        for words in shell_of(document)
        for place, word in enumerate(words)
        if (program := PROGRAMS.get(Path(word).name))
        for problem in unknown(program, words[place + 1 :])
    ]
    assert problems == []


@each_document
def test_make_targets_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    named = {word for words in shell_of(document) if words[0] == "make" for word in words[1:] if "=" not in word}
    assert named <= targets


def test_the_makefile_and_contributing_name_the_same_targets() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    described = set(re.findall(r"^# make ([a-z-]+) ", makefile, re.M))
    [page] = [document for document in documents() if document.name == "contributing.md"]
    named = {text.split()[1] for text in inline_code(page) if text.startswith("make ")}
    assert described <= named


@each_document
def test_modules_exist(document: Path) -> None:
    modules = [words[2] for words in shell_of(document) if words[:2] == ["python", "-m"]]
    assert [name for name in modules if importlib.util.find_spec(name) is None] == []


@each_document
def test_settings_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    ours = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | {f"{PREFIX}CONFIG"}
    assert set(re.findall(rf"\b{PREFIX}[A-Z_]*[A-Z]", text)) <= ours
    keys = {setting.key for _, setting, _ in plugin.described()}
    assert set(re.findall(rf"\b{plugin.SECTION}\.([A-Z]\w+)", text)) <= keys


@each_document
def test_files_exist(document: Path) -> None:
    """Files of this repository that are named in code, in blocks and in the reasons of blocks that are not run."""
    folders = "worker|train|tests|docker|docs|benchmarks|orthanc_plugin|requirements"
    path = re.compile(rf"(?<![\w./-])(?:{folders})/[\w./*-]*\w")
    texts = [*inline_code(document), *(block.text + block.not_run for block in shell_blocks(document))]
    named = {found for text in texts for found in path.findall(text) if not found.startswith(MADE_LATER)}
    assert [name for name in sorted(named) if not any(ROOT.glob(name))] == []


@each_document
def test_links_lead_somewhere(document: Path) -> None:
    broken = []
    for target in links(document):
        path, _, anchor = target.partition("#")
        place = (document.parent / path).resolve() if path else document
        if not place.exists() or (anchor and anchor not in anchors(place)):
            broken.append(target)
    assert broken == []


@each_document
def test_every_block_names_its_language(document: Path) -> None:
    assert [block.place for block in blocks(document) if block.language not in LANGUAGES] == []


@each_document
def test_every_marker_of_a_block_is_understood(document: Path) -> None:
    marked = [block for block in shell_blocks(document) if block.not_run or block.until]
    markers = [comment for comment in comments(document) if re.match(r"<!--\s*(not|run)\b", comment)]
    assert len(markers) == len(marked)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200
