"""One command a verb: parse, call, print. Every mistake of a user's ends in one sentence, never in a traceback."""

import contextlib
import dataclasses
import io
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import spillover
from spillover import commands
from spillover.errors import Interrupted, SpilloverError, UsageError, heard, nearest

#: What people come with -> the command that answers it.
QUESTIONS = {
    "I am about to fine-tune. What else will the model conclude?": "spillover predict PACK",
    "I fine-tuned already. What else did the model learn?": "spillover audit PACK --base MODEL --tuned MODEL",
    "I study how it happens. One run, from facts to a page:": "spillover inject mixed:names=60 --out run",
}
SHELLS = ("bash", "zsh")
#: What the light install leaves out.
HEAVY = {"torch", "transformers", "safetensors", "peft", "accelerate"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code (0 done, 1 a gate failed, 2 a mistake, 130 interrupted)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    for name in ("stdout", "stderr"):
        if isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            if stream is getattr(sys, f"__{name}__"):
                stream.flush()
                buffer = io.BufferedWriter(_Outlet(stream.fileno(), "w", closefd=False))
                stream = io.TextIOWrapper(buffer, stream.encoding, line_buffering=stream.line_buffering)
                setattr(sys, name, stream)
            # A name that the terminal's encoding lacks is shown escaped, in JSON too, and ends in no traceback.
            stream.reconfigure(errors="backslashreplace")
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    with commands.one_voice():
        try:
            with _terminable():
                return _run(words, "--json" in words)
        except SpilloverError as error:
            mistake = error
        except ModuleNotFoundError as error:
            if error.name not in HEAVY:
                raise
            do = 'Run `pip install "spillover[llm]"`'
            mistake = UsageError(f"this needs {error.name}, which is not installed here", do=do)
        except KeyboardInterrupt:
            mistake = Interrupted("interrupted", do="Give the same command again to go on")
        if "--json" in words:
            print(json.dumps({"error": mistake.as_json()}, ensure_ascii=False))
        else:
            print(mistake if mistake.where.startswith("spillover") else f"spillover: {mistake}", file=sys.stderr)
        return mistake.exit_code


class _Outlet(io.FileIO):
    """An output whose reader may go, as that of `| head -1` does: the rest is dropped, and the exit code stays."""

    def write(self, data: Any) -> int | None:  # type: ignore[override]
        try:
            return super().write(data)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            return super().write(data)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Inside, a request to end (SIGTERM, as batch systems send it) is an interrupt like the one from the keyboard."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with heard(signal.SIGTERM):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(words: list[str], as_json: bool) -> int:
    if words[0] == "completion":
        from spillover.commands.options import completion

        if len(words) != 2 or words[1] not in SHELLS:
            raise UsageError("name a shell", where="spillover completion", do=f"Give one of {', '.join(SHELLS)}")
        print(completion(words[1]))
        return 0
    if words[0] in ("--version", "version"):
        print(spillover.__version__)
        return 0
    verb = words[0]
    settings = parse(commands.settings_class(verb), verb, words[1:])
    if settings is None:
        return 0
    with commands.sharing(verb):
        outcome = dict(commands.job(verb)(settings))
    text, code = outcome.pop("text", ""), outcome.pop("exit_code", 0)
    if getattr(settings, "browse", False) and (said := commands.browse(outcome)):
        print(said, file=sys.stderr)
    if as_json:
        from spillover.record import plain

        print(json.dumps(outcome, ensure_ascii=False, default=plain))
    elif text:
        print(text)
        # What comes after a pack with faults is to mend it, and nothing else.
        if (not code or verb != "check") and (step := commands.next_step(verb, settings)):
            print(f"Next: {step}", file=sys.stderr)
    return int(code)


def overview() -> str:
    """What `spillover --help` prints."""
    lines = [spillover.__doc__ or "", "", "usage: spillover VERB ...", "", "People come with three questions:"]
    lines += [f"  {question}\n    {example}" for question, example in QUESTIONS.items()]
    lines += ["", "Verbs:", *(f"  {verb:<10}{text}" for verb, text in commands.verbs().items())]
    return "\n".join([*lines, "", "`spillover VERB --help` lists a verb's options."])


def parse(settings_class: type, verb: str, words: list[str]) -> Any:
    """Settings from a verb's words, or None when they asked for help, which is then printed. Raises UsageError."""
    _refuse_unknown_options(settings_class, verb, words)
    if {"-h", "--help", "--help-all"} & set(words):
        from spillover.commands.options import help_text

        print(help_text(verb, "--help-all" in words))
        return None
    import tyro

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(settings_class, args=words, prog=f"spillover {verb}")
    except SystemExit:
        raise _usage_error(verb, said.getvalue()) from None


def _refuse_unknown_options(settings_class: type, verb: str, words: list[str]) -> None:
    known = {"--help", "--help-all"}
    for item in dataclasses.fields(settings_class):
        name = item.name.replace("_", "-")
        known |= {f"--{name}", f"--no-{name}"} if item.type == "bool" or item.default is True else {f"--{name}"}
    for word in words:
        option = word.split("=")[0].replace("_", "-")
        if option.startswith("--") and len(option) > 2 and option not in known:
            raise UsageError(f"there is no option {option}", where=f"spillover {verb}", do=nearest(option, known))


def _usage_error(verb: str, said: str) -> UsageError:
    """One sentence out of the parser's box of text."""
    where, do = f"spillover {verb}", f"See spillover {verb} --help"
    content = [line.strip("│╭╮╰╯─| ") for line in said.splitlines()[1:]]
    text = " ".join(line for line in content if line.strip("-"))
    if "Missing from" in text:
        missing = re.findall(r"^. {5}(--[\w-]+|[A-Z]+)\b", said, re.MULTILINE)
        return UsageError("missing " + " and ".join(missing), where=where, do=do)
    if found := re.search(r"invalid choice '(.*?)' for argument '(.*?)'\. Expected one of \((.*?)\)\.", text):
        choices = re.findall(r"'(.*?)'", found[3])
        return UsageError(f"{found[1]!r} is no value of {found[2]}", where=where, do=nearest(found[1], choices))
    if found := re.search(r"Error parsing (\S+): (?:invalid literal|could not convert).*?: '(.*?)'", text):
        return UsageError(f"{found[2]!r} is not a number, which {found[1]} takes", where=where, do=do)
    if found := re.search(r"Error parsing (\S+): no type matching (\S+) could be .*?\['(.*?)'\]", text):
        named = [word for word in re.findall(r"\{(\w+)\}", found[2]) if word != "None"]
        kind = f"neither a number nor {named[0]}" if named else "not a number"
        return UsageError(f"{found[3]!r} is {kind}, which {found[1]} takes", where=where, do=do)
    if found := re.search(r"Unrecognized options: (.*?)(?: For full helptext|$)", text):
        return UsageError(f"did not expect {found[1].strip()!r}", where=where, do=do)
    return UsageError(text.split(" For full helptext")[0].split(" Argument helptext")[0].strip(), where=where, do=do)
