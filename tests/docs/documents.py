"""What the documents say, in pieces that tests can check: shell blocks, code in the text, headings, links."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
SHELL = ("sh", "bash", "shell")

_MARKER = re.compile(r"<!-- (not run|run until): (.+?) -->")


def documents() -> list[Path]:
    """README, all pages of docs/, and the README that is shipped with the plugin."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "orthanc_plugin" / "README.md"]


def name_of(document: Path) -> str:
    return str(document.relative_to(ROOT))


@dataclass(frozen=True)
class Block:
    """A fenced block.

    place: document and line. language: of the fence. not_run: the reason why
    it cannot run in a test, or "". until: text in the output of a block that
    runs until Ctrl-C, or "".
    """

    place: str
    language: str
    text: str
    not_run: str = ""
    until: str = ""


@cache
def tokens_of(document: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(document.read_text(encoding="utf-8"))


def blocks(document: Path) -> list[Block]:
    """The fenced blocks of a document, with the marker in the comment before each."""
    result, comment = [], ""
    for token in tokens_of(document):
        if token.type == "fence":
            marker = _MARKER.search(comment)
            kind, words = marker.groups() if marker else ("", "")
            assert token.map is not None
            result.append(
                Block(
                    f"{name_of(document)}:{token.map[0] + 1}",
                    token.info.strip(),
                    token.content,
                    not_run=words if kind == "not run" else "",
                    until=words if kind == "run until" else "",
                )
            )
        comment = token.content if token.type == "html_block" else ""
    return result


def shell_blocks(document: Path) -> list[Block]:
    return [block for block in blocks(document) if block.language in SHELL]


def comments(document: Path) -> list[str]:
    """The HTML comments that stand between paragraphs."""
    return [token.content for token in tokens_of(document) if token.type == "html_block"]


def _inline(document: Path) -> Iterator[Token]:
    for token in tokens_of(document):
        yield from token.children or ()


def inline_code(document: Path) -> list[str]:
    """All `code` in the text."""
    return [token.content for token in _inline(document) if token.type == "code_inline"]


def links(document: Path) -> list[str]:
    """Targets of links and pictures that lie in this repository."""
    targets = [str(token.attrGet("href" if token.type == "link_open" else "src") or "") for token in _inline(document)]
    return [target for target in targets if target and not re.match(r"[a-z]+:", target)]


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a document."""
    found: list[str] = []
    tokens = tokens_of(document)
    for heading, content in pairwise(tokens):
        if heading.type == "heading_open":
            text = "".join(child.content for child in content.children or ())
            slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
            found.append(f"{slug}-{found.count(slug)}" if slug in found else slug)
    return set(found)


def commands(text: str) -> list[list[str]]:
    """The simple commands of a piece of shell, each as its words."""
    result: list[list[str]] = []
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in lexer:
            if set(word) <= set("();<>|&"):
                result.append(words)
                words = []
            else:
                words.append(word)
        result.append(words)
    return [words for words in result if words]
