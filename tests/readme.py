"""The README's blocks and its table, for the tests that run them."""

from __future__ import annotations

import re
import signal
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


def handler() -> str:
    """The line of the README's recipe that turns SIGTERM into `sys.exit`."""
    match = re.search(r"^signal\.signal\(signal\.SIGTERM, .*$", TEXT, re.M)
    assert match, "the README has no handler of SIGTERM"
    return match.group()


def rows() -> dict[str, list[str]]:
    """The two tables under "Is it torn down?": the other cells of each row, by its first."""
    section = re.split(r"^## ", TEXT, flags=re.M)
    (table,) = (part for part in section if part.startswith("Is it torn down?"))
    lines = [line.strip("| ").split(" | ") for line in table.splitlines() if line[:1] == "|"]
    return {first: others for first, *others in lines if "yes" in others or "no" in others}


def torn_down(row: str, number: int = signal.SIGINT) -> bool:
    """What its tables say of this way to end, or of a program that this signal ends."""
    answer = rows()[row][0 if number == signal.SIGINT else 1]
    assert answer in ("yes", "no"), f"{row} says {answer}"
    return answer == "yes"
