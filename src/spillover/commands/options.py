"""The options of a verb for people: their texts, groups, what they take, an example. For help, docs and completion."""

from __future__ import annotations

import ast
import dataclasses
import functools
import itertools
import sys
import textwrap
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from spillover import commands

#: A verb's example, which `--help` ends with.
EXAMPLES = {
    "models": "spillover models get smollm2-135m",
    "packs": "spillover packs discover train.jsonl --out my-pack",
    "check": "spillover check my-pack --model smollm2-135m",
    "predict": "spillover predict train.jsonl --draft my-pack",
    "inject": "spillover inject mixed:names=60 --out runs/mixed",
    "mitigate": "spillover mitigate my-pack --out runs/remedies --remedies stay-near-base=1,abstention=4",
    "repair": "spillover repair my-model --base smollm2-135m --pack my-pack --remedy ignore-topk=0.05 --out runs/new",
    "audit": "spillover audit my-pack --base smollm2-135m --tuned my-model --out runs/audit",
    "where": "spillover where runs/mixed --out runs/where",
    "report": "spillover report runs/mixed --out page.html --browse",
    "verify": "spillover verify runs/mixed",
    "rerun": "spillover rerun runs/mixed --out runs/again",
    "solve": "spillover solve my-pack",
    "certify": "spillover certify my-pack --matrix matrix.npy",
    "lab": "spillover lab two-models --quick --out runs/lab",
    "sweep": "spillover sweep families --plan",
}
#: The groups, in the order of help, and the options of each; what is in none belongs to the verb's own work.
OWN = "Options"
GROUPS = {
    "Training": "epochs untreated_epochs lr batch micro_batch weight_decay optimiser gradient_checkpointing "
    "compile_layers logits_at_once freeze_embeddings lora lora_targets train_prompts evaluate_every until_learned "
    "until_nats max_forgetting facts_known",
    "Verdicts": "fail_on level max_unwanted_rate max_invented_rate min_recall allow_different",
    "Chat": "chat system chat_template prefix date",
    "Machine": "device dtype revision threads processes sharded engine address on devices memory tflops bandwidth",
    "Output": "json redact track junit save browse",
}
#: Options that few people need: `--help-all` shows them too. VERB.NAME: of this verb alone.
RARE = (
    "system chat_template prefix date revision dtype micro_batch weight_decay optimiser gradient_checkpointing "
    "compile_layers logits_at_once lora_targets train_prompts evaluate_every until_learned until_nats inside "
    "facts_known hold_out hold_out_relation ask_again plain_text sharded track inject.tuned inject.processes strengths "
    "level allow_different max_invented_rate min_recall probes max_iterations gap address engine devices memory tflops "
    "bandwidth head_dimension encoding separator sheet least"
)
#: What an option takes, by its name; VERB.NAME comes first, and the kind of value last.
TAKES = {
    "pack": "PACK", "model": "MODEL", "base": "MODEL", "tuned": "MODEL", "inject.tuned": "RUN", "out": "FOLDER",
    "report.out": "FILE", "draft": "FOLDER", "folder": "FOLDER", "run": "RUN", "runs": "RUN", "study": "STUDY",
    "preset": "PRESET", "file": "FILE", "relations": "FILE", "probes": "FILE",
    "hold_out_relation": "RELATION", "junit": "FILE", "matrix": "FILE",
    "plain_text": "FILE", "chat_template": "MODEL|FILE", "system": "TEXT", "prefix": "TEXT", "date": "DAY",
    "remedy": "NAME=STRENGTH", "remedies": "NAME=STRENGTH,...", "seeds": "0,1,2", "strengths": "0.5,1",
    "symbolic": "n=20,train=1,test=3", "address": "HOST:PORT", "lora_targets": "NAME,...", "revision": "NAME",
    "device": "DEVICE", "on": "DEVICE", "encoding": "NAME", "separator": "CHARACTER", "sheet": "NAME",
    "subject": "COLUMN",
}  # fmt: skip
WIDTH = 100


@dataclasses.dataclass(frozen=True)
class Option:
    """One option. shown: how it is written. takes: its value, nothing for a switch. default: in a reader's words."""

    name: str
    shown: str
    takes: str
    default: str
    text: str
    group: str
    rare: bool
    positional: bool


def options(verb: str) -> list[Option]:
    """The options of a verb, what has no name first, then by group."""
    settings_class = commands.settings_class(verb)
    hints = get_type_hints(settings_class)
    found = [_option(verb, settings_class, field, hints[field.name]) for field in dataclasses.fields(settings_class)]
    order = [OWN, *GROUPS]
    return sorted(found, key=lambda each: (
        not each.positional, order.index(each.group), each.default != "required", each.name == "seed"
    ))  # fmt: skip


def _option(verb: str, settings_class: type, field: dataclasses.Field[Any], hint: Any) -> Option:
    name, written = field.name, "--" + field.name.replace("_", "-")
    positional = "Positional" in str(field.type)
    takes = "" if hint is bool else TAKES.get(f"{verb}.{name}", TAKES.get(name, ""))
    if hint is not bool and (not takes or Literal in _kinds(hint)):
        takes = _kind(hint)
    shown = name.upper() if positional else f"{written}, --no-{written[2:]}" if field.default is True else written
    empty = {None: "", "": "", False: "no", True: "yes"}
    default = "required" if field.default is dataclasses.MISSING else str(field.default)
    if isinstance(field.default, str | bool | None):
        default = empty.get(field.default, default)
    group = next((title for title, names in GROUPS.items() if name in names.split()), OWN)
    return Option(
        name, shown, takes, default, _text(settings_class, name), OWN if positional else group,
        bool({name, f"{verb}.{name}"} & set(RARE.split())), positional,
    )  # fmt: skip


def _kinds(hint: Any) -> set[Any]:
    return {get_origin(part) for part in (hint, *get_args(hint))}


def _kind(hint: Any) -> str:
    """A type as help writes it: the choices, or what sort of value."""
    if get_origin(hint) is Literal:
        return "|".join(map(str, get_args(hint)))
    if get_origin(hint) in (Union, type(int | None)):
        return "|".join(_kind(part) for part in get_args(hint) if part is not type(None))
    if get_origin(hint) is tuple:
        return f"{_kind(get_args(hint)[0])} ..."
    return {int: "N", float: "X", str: "TEXT"}[hint]


def _text(settings_class: type, name: str) -> str:
    """The text under a field, looked up in the class and then in those it is made from."""
    for each in settings_class.__mro__:
        if each is not object and name in (known := _texts(each)):
            return known[name]
    raise KeyError(f"{settings_class.__name__}.{name} has no text under it")


@functools.cache
def _texts(owner: type) -> dict[str, str]:
    tree = ast.parse(Path(sys.modules[owner.__module__].__file__ or "").read_text(encoding="utf-8"))
    node = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == owner.__name__)
    found = {}
    for field, said in itertools.pairwise(node.body):
        match field, said:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = _filled(" ".join(text.split()))
    return found


def _filled(text: str) -> str:
    """The text with what the package holds in place of {built-in studies}."""
    if "{built-in studies}" not in text:
        return text
    folder = Path(__file__).parent / "built_in_studies"
    return text.replace("{built-in studies}", ", ".join(sorted(path.stem for path in folder.glob("*.yaml"))))


def help_text(verb: str, everything: bool) -> str:
    """What `spillover VERB --help` prints; with `everything`, rare options too."""
    found = [each for each in options(verb) if everything or not each.rare]
    hidden = len(options(verb)) - len(found)
    places = " ".join(
        each.shown if each.default == "required" else f"[{each.shown}]" for each in found if each.positional
    )
    needed = [f"{each.shown} {each.takes}" for each in found if each.default == "required" and not each.positional]
    lines = [" ".join(["usage: spillover", verb, places, *needed, "[options]"]).replace("  ", " "), ""]
    lines += textwrap.wrap(" ".join((commands.settings_class(verb).__doc__ or "").split()), WIDTH)
    title = ""
    for each in found:
        group = "What it works on" if each.positional else each.group
        lines += ["", f"{group}:"] if group != title else []
        title = group
        lines += _entry(each)
    lines += ["", "For example:", f"  {EXAMPLES[verb]}" if verb in EXAMPLES else ""]
    more = f"{hidden} more options: spillover {verb} --help-all. " if hidden else ""
    return "\n".join([*lines, "", f"{more}The page of this verb: docs/verbs/{verb}.md"])


def _entry(option: Option) -> list[str]:
    head = f"  {option.shown}" + (f" {option.takes}" if option.takes and not option.positional else "")
    default = option.default if option.default not in ("", "required", "no") else ""
    default = f" (default: {default})" if default else " (required)" if option.default == "required" else ""
    choices = f" One of {option.takes}." if option.positional and "|" in option.takes else ""
    body = textwrap.wrap(f"{option.text}{choices}{default}", WIDTH - 26)
    if len(head) > 24:
        return [head, *(" " * 26 + line for line in body)]
    return [f"{head:<26}{body[0]}", *(" " * 26 + line for line in body[1:])]


def completion(shell: str) -> str:
    """A script by which a shell completes verbs, options and their choices."""
    cases = []
    for verb in commands.verbs():
        words = [part.strip() for each in options(verb) if not each.positional for part in each.shown.split(",")]
        cases.append(f"    {verb}) words='{' '.join([*words, '--help', '--help-all'])}' ;;")
    verbs = " ".join([*commands.verbs(), "help", "version", "completion"])
    zsh = ["autoload -U +X compinit && compinit", "autoload -U +X bashcompinit && bashcompinit"]
    return "\n".join([
        *(zsh if shell == "zsh" else []),
        "_spillover() {",
        "  local words='' word=\"${COMP_WORDS[COMP_CWORD]}\"",
        f"  if [ \"$COMP_CWORD\" -eq 1 ]; then words='{verbs}'",
        "  else case \"${COMP_WORDS[1]}\" in", *cases, "  esac; fi",
        "  case \"$word\" in -*|'') ;; *) [ \"$COMP_CWORD\" -gt 1 ] && words='' ;; esac",
        "  COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))",
        "}",
        "complete -o default -o bashdefault -F _spillover spillover",
    ])  # fmt: skip
