"""The README's blocks and its table, for the tests that run them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

README = Path(__file__).parent.parent / "README.md"
TEXT = README.read_text()


class Block(NamedTuple):
    """What stands between two fences."""

    section: str
    language: str
    text: str


def blocks() -> list[Block]:
    """All of them, in order."""
    found, section = [], "start"
    for match in re.finditer(r"^##+ ([^\n]+)$|^```(\w+)\n(.*?)^```$", TEXT, re.M | re.S):
        heading, language, text = match.groups()
        section = heading or section
        if not heading:
            found.append(Block(section, language, text))
    return found


def name_of(block: Block) -> str:
    """The name that a block gives itself in its first line, where it is a file."""
    match = re.match(r"# ([\w.]+\.py)\n", block.text)
    return match.group(1) if match else ""


def file(name: str) -> str:
    """The blocks of this name, one below the other."""
    texts = [block.text for block in blocks() if name_of(block) == name]
    assert texts, f"{name} is no block of the README"
    return "\n".join(texts)


def torn_down(row: str) -> bool:
    """What the table "Is it torn down?" says of this way to end."""
    answers = re.findall(rf"^\| {re.escape(row)} \| (yes|no) \|", TEXT, re.M)
    assert len(answers) == 1, f"{row} is no row of the README"
    return bool(answers[0] == "yes")
