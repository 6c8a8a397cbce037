"""Every command that a page or a message names can be typed: the verb and its options exist."""

import re
from pathlib import Path

import pytest
import typer

from flows.cli.app import app

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```.*?\n(.*?)^```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+)`")
COMMAND = re.compile(r"(?<![\w/.-])fetalflow ([a-z][^`\n|#)]*)")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "infra").rglob("*.md"))]
CODE = [path for top in ("fetalflow", "flows", "stages") for path in sorted((ROOT / top).rglob("*.*"))]
VERBS = typer.main.get_command(app).commands


def commands_of(path: Path) -> list[list[str]]:
    """The words after `fetalflow` of every command in a file: in code blocks, and between backticks."""
    text = path.read_text(encoding="utf-8")
    lines = [line for block in FENCE.findall(text) for line in block.splitlines()]
    lines += INLINE.findall(FENCE.sub("", text))
    return [found[1].split() for line in lines for found in COMMAND.finditer(line)]


def wrong_in(words: list[str]) -> str:
    """What cannot be typed; empty where all of the verb, its sub-verb and its options exist."""
    verb, *rest = (word.rstrip(".,;:)]\"'") for word in words)
    command = VERBS.get(verb)
    if command is None:
        return f"no verb {verb}"
    if rest and rest[0] in getattr(command, "commands", {}):
        command, rest = command.commands[rest[0]], rest[1:]
    known = {"--help"} | {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
    given = {word.split("=")[0] for word in rest if re.match(r"--[a-z]", word)}
    return ", ".join(f"{verb} has no {option}" for option in sorted(given - known))


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        ("run --drop X", ""),
        ("rum --drop X", "no verb rum"),
        ("ledger seal --key-file K", ""),
        ("ledger seal --keyfile K", "ledger has no --keyfile"),
        ("settings --set a.b=5", ""),
    ],
)
def test_a_wrong_command_is_found(words, wrong):
    assert wrong_in(words.split()) == wrong


def test_every_command_that_is_written_down_can_be_typed():
    code = [path for path in CODE if path.suffix in (".py", ".j2")]
    found = [(path, words) for path in (*PAGES, *code) for words in commands_of(path)]
    assert len(found) > 300
    lost = [f"{path.relative_to(ROOT)}: {wrong}" for path, words in found if (wrong := wrong_in(words))]
    assert not lost, "\n".join(lost)
