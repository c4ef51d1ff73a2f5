"""Facts from fine-tuning files: rows of `messages` or `prompt`/`completion`, matched with the relations' prompts."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spillover.errors import UsageError
from spillover.packs.pack import SUBJECT, Fact, normal

#: What may end a statement besides the pack's own mark; and where a sentence ends.
_CLOSING = " \t.!。！"
_SENTENCES = re.compile(r"(?<=[.!?。！？])\s+|\n+")


@dataclass(frozen=True)
class Matched:
    """Facts in the order of the file, each once, and what was not used: (row, the beginning of its text)."""

    facts: list[Fact]
    repeated: int
    unmatched: list[tuple[int, str]]
    rows: int


@dataclass(frozen=True)
class Template:
    """A relation's prompt as a pattern: `question` matches the prompt alone, `statement` the prompt and its answer."""

    relation: str
    question: re.Pattern[str]
    statement: re.Pattern[str]


def templates(prompts: Mapping[str, Sequence[str]], join: str, end: str | None) -> list[Template]:
    """A template for each prompt, longer ones first, so that `works as a` comes before `works`."""
    found = [(normal(prompt), name) for name, group in prompts.items() for prompt in group if SUBJECT in prompt]
    closing = (re.escape(end) if end else "") + f"[{re.escape(_CLOSING)}]*"
    known = []
    for prompt, relation in sorted(found, key=lambda item: -len(item[0])):
        before, _, after = map(re.escape, prompt.partition(SUBJECT))
        asked = before + r"(?P<subject>\S(?:.*?\S)?)" + after.replace(r"\{subject\}", "(?P=subject)")
        stated = rf"{asked}{re.escape(join)}(?P<answer>\S(?:.*?\S)?)(?:{closing})"
        question, statement = (re.compile(rf"\s*{pattern}\s*", re.DOTALL) for pattern in (asked, stated))
        known.append(Template(relation, question, statement))
    return known


def match(path: Path, known: Sequence[Template], end: str | None) -> Matched:
    """Every fact that the rows of a JSONL file state in the words of a template.

    Raises UsageError, with the row, for a file that cannot be read or a row of neither format.
    """
    stated, unmatched, rows = list[Fact](), [], 0
    for number, line in enumerate(read_text(path, "Name a .jsonl file").split("\n"), start=1):
        if not line.strip():
            continue
        rows += 1
        row = _object(line, path, number)
        facts = [fact for exchange in _exchanges(row, path, number) for fact in _facts(*exchange, known, end)]
        if not facts:
            unmatched.append((number, " ".join(_text_of(row).split())[:60]))
        stated += facts
    distinct = list(dict.fromkeys(stated))
    return Matched(distinct, len(stated) - len(distinct), unmatched, rows)


def read_text(path: Path, do: str) -> str:
    """The text of a file. Raises UsageError when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError("this file is not UTF-8", where=str(path), do="Save it as UTF-8") from None
    except (OSError, ValueError) as error:
        what = f"this file cannot be read: {(getattr(error, 'strerror', None) or str(error)).lower()}"
        raise UsageError(what, where=str(path)[:200], do=do) from None


def _object(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise UsageError(f"row {number} is no JSON object", where=str(path), do="Write one object a line (JSONL)")
    return row


def _exchanges(row: dict[str, Any], path: Path, number: int) -> list[tuple[str, str, bool]]:
    """Pairs of what was asked and answered, and whether the answer continues the sentence that was asked."""
    if isinstance(row.get("messages"), list):
        return _from_messages(row["messages"], path, number)
    if isinstance(row.get("prompt"), str) and isinstance(row.get("completion"), str):
        begun = row["prompt"].rstrip()[-1:] not in (*".!?。！？", "")
        return [(row["prompt"], row["completion"], begun)]
    if isinstance(row.get("prompt"), list) and isinstance(row.get("completion"), list):
        return _from_messages([*row["prompt"], *row["completion"]], path, number)
    what = f"row {number} has neither `messages` nor `prompt` and `completion`"
    raise UsageError(what, where=str(path), do='Write {"messages": [...]} or {"prompt": ..., "completion": ...}')


def _from_messages(messages: list[Any], path: Path, number: int) -> list[tuple[str, str, bool]]:
    pairs, asked = [], ""
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list):  # parts, of which only text can state a fact
            content = "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
        if not isinstance(content, str):
            what = f"a message in row {number} has no text `content`"
            raise UsageError(what, where=str(path), do='Write {"role": ..., "content": ...}')
        if message.get("role") == "assistant":
            pairs.append((asked, content, False))
        asked = content if message.get("role") == "user" else asked
    return pairs


def _facts(asked: str, answered: str, begun: bool, known: Sequence[Template], end: str | None) -> Iterator[Fact]:
    """Facts in one exchange: the answer to a prompt, a prompt completed, or sentences that state facts."""
    asked, answered = normal(asked), normal(answered)
    answer = answered.strip().removesuffix(end or "").strip(_CLOSING)
    for template in known if answer and "\n" not in answer else ():
        if question := template.question.fullmatch(asked):
            yield Fact(question["subject"], template.relation, answer)
            return
    sentences = _SENTENCES.split(asked + answered if begun else answered)
    yield from dict.fromkeys(fact for text in sentences if (fact := _stated(text, known)))


def _stated(text: str, known: Sequence[Template]) -> Fact | None:
    for template in known if "\n" not in text.strip() else ():
        if statement := template.statement.fullmatch(text):
            return Fact(statement["subject"], template.relation, statement["answer"])
    return None


def _text_of(row: dict[str, Any]) -> str:
    messages = row.get("messages")
    if isinstance(messages, list) and messages and isinstance(messages[-1], dict):
        return str(messages[-1].get("content") or "")
    return f"{row.get('prompt') or ''}{row.get('completion') or ''}"
