"""Writes the tables of docs/results.md and the figures beside them, and what was measured of each remedy.

    python tools/make_results.py STUDY ...      # takes the numbers and the figures from the folders of studies
    python tools/make_results.py                # writes all again, from docs/results and the comparisons in results

Remedies: src/spillover/metrics/advice.json, on which every advice rests, and the pages of docs that cite it. A test
compares all of it with what the second gives.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from spillover.details import FrontierEntry, MitigateDetails
from spillover.metrics import remedies as judging
from spillover.record import Record, write_table
from spillover.report.remedies import Tried
from spillover.report.study_sets import MODELS, NEWLY, RANKS

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGE, TABLES, IMAGES = ROOT / "docs/results.md", ROOT / "docs/results", ROOT / "docs/images"
KEPT, FAMILIES = TABLES / "paper-270m.parquet", TABLES / "families.parquet"
#: Study -> plot -> the file that the page shows.
FIGURES = {
    "paper-270m": {
        "study-sets": IMAGES / "paper-270m.svg",
        "rank-by-bridging": IMAGES / "bridging-270m.svg",
        "rank-by-rate": IMAGES / "rates-270m.svg",
    },
    "families": {"paper-table": IMAGES / "families.svg", NEWLY: IMAGES / "findings.svg"},
    "dial": {"share-by-forgetting": IMAGES / "dial.svg"},
    "hops": {"rank-by-layers": IMAGES / "hops.svg"},
}
BLOCK = re.compile(r"(<!-- results: ([\w-]+) -->\n).*?(<!-- end of results -->)", re.DOTALL)
#: Row of the table -> its words; those without published numbers are our controls.
ROWS = {
    "city-language": "city → language (true)",
    "city-language-counterfactual": "city → language (permuted, false)",
    "country-code": "country → programming language (arbitrary)",
    "profession-color": "profession → colour (arbitrary)",
    "sport-music": "sport → music (arbitrary)",
    "null": "control: shuffled, ten ways",
    "city-language-bridge=0": "control: facts only",
}
#: The three families, as the study names them, and what people call them.
MODELS_HERE = {
    "smollm2-135m": "SmolLM2-135M", "gemma-3-270m": "Gemma-3-270M", "qwen2.5-coder-0.5b": "Qwen2.5-Coder-0.5B",
}  # fmt: skip
MADE_UP = ("city-language-counterfactual", "country-code", "profession-color", "sport-music")
#: The list of kept runs, and its table of how much the models of each study forgot.
KEPT_RUNS = ROOT / "results/README.md"
HEALTH = re.compile(r"(<!-- health -->\n).*?(<!-- end of health -->)", re.DOTALL)
#: How predictions did, and what they were judged on.
HELD_OUT = ROOT / "src/spillover/metrics/held_out.json"
JUDGED = {"third_model": "{}, a third model", "never_seen": "packs never seen, {}"}
#: What was measured of each remedy, and the pages that cite it.
ADVICE = ROOT / "src/spillover/metrics/advice.json"
GUIDES = ("hallucinates-from-my-facts", "about-to-tune", "predicting")
CITING = [PAGE, *(ROOT / "docs" / f"{name}.md" for name in GUIDES)]
CITED = re.compile(r"(<!-- remedies: ([\w -]+?) -->\n).*?(<!-- end of remedies -->)", re.DOTALL)
WHOLE = "_no-freeze-embeddings"
HEADS = ("set", "before", "after", "p", "all weights trained", "baseline", *MODELS)


def _of_families() -> dict[tuple[str, str], dict[str, dict[str, Any]]]:
    """(row of ROWS, model) -> metric -> its row over all seeds, and how many seeds there are."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    seeds: dict[str, set[int]] = {}
    for row in pq.read_table(FAMILIES).to_pylist():
        if row["seed"] is not None:
            seeds.setdefault(row["options"], set()).add(row["seed"])
        # Of several metrics of one name, that over everything comes first; a set has one implication.
        elif row["metric"]:
            found.setdefault(row["options"], {}).setdefault(row["metric"], row)
    named = {}
    for options, own in found.items():
        given = json.loads(options)
        cell = given["pack"].replace(":", "-")
        named[cell, given["model"]] = {**own, "seeds": {"value": len(seeds[options])}}
    return {(cell, model): named[cell, model] for cell in ROWS for model in MODELS_HERE if (cell, model) in named}


def families() -> str:
    """The table of three families in Markdown: a row a set and model."""
    heads = ("set", "model", "newly concluded", "mean rank", "p", "forgetting, nats a token", "the paper's five models")
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for (cell, model), own in _of_families().items():
        words = [ROWS[cell].replace(", ten ways", ""), MODELS_HERE[model] + _few(own), *_family(own, cell)]
        lines.append("| " + " | ".join(words) + " |")
    return "\n".join(lines) + "\n"


def findings() -> str:
    """The same in a line a model, for the first page: shares that newly conclude."""
    cards = {
        "a true link": "what-does-a-model-conclude-that-stays-alive",
        "the same, nothing stated to conclude it from": "how-much-of-the-true-link-is-recalled-and-not-learned",
        "made-up links, four sets": "which-made-up-pair-does-it-conclude",
        "shuffled, nothing to conclude": "is-nothing-concluded-where-there-is-nothing-to-conclude",
        "forgets at most, nats a token": "at-which-rate-does-smollm2-stay-alive-and-learn-everything",
    }
    heads = ("model", *(f"[{text}](docs/gallery.md#{anchor})" for text, anchor in cards.items()))
    lines, found = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"], _of_families()
    for model, name in MODELS_HERE.items():
        own = {cell: each for (cell, of), each in found.items() if of == model}
        if own.keys() != ROWS.keys():
            continue
        made_up = [own[cell]["newly"]["value"] for cell in MADE_UP]
        words = [_number(own[cell]["newly"]) for cell in ("city-language", "city-language-bridge=0", "null")]
        lost = max(each["forgetting_nats"]["value"] for each in own.values())
        words.insert(2, f"{min(made_up):.2f} to {max(made_up):.2f}")
        lines.append(f"| {name}{_few(own[MADE_UP[0]])} | {' | '.join(words)} | {lost:.2f} |")
    return "\n".join(lines) + "\n"


def _few(own: dict[str, dict[str, Any]]) -> str:
    seeds = own["seeds"]["value"]
    return "" if seeds == 3 else f" ({seeds} seed{'s' * (seeds > 1)})"


def _family(own: dict[str, dict[str, Any]], cell: str) -> list[str]:
    theirs = RANKS.get(cell, ())
    return [
        _number(own.get("newly"), interval=True),
        _number(own.get("implication_rank_test"), interval=True),
        _number(own.get("map_test_p"), digits=4),
        _number(own.get("forgetting_nats"), interval=True),
        f"{min(theirs):.2f} to {max(theirs):.2f}" if theirs else "–",
    ]


def predictions() -> str:
    """How well `predict` foretold what its calibration never saw, in Markdown: a row a set of features."""
    judged = json.loads(HELD_OUT.read_text(encoding="utf-8"))
    heads = ["score rests on"]
    for name, what in JUDGED.items():
        if own := judged[name]:
            n = f"{own['packs']} packs, {own['rows']} associations and runs"
            heads += [f"{what.format(', '.join(own['models']))} ({n}): rank correlation", "squared error"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for features in judged["third_model"]["figures"]:
        words = [f"**{' and '.join(features.split('+'))}**" if "+" in features else f"{features} alone"]
        for own in filter(None, (judged[name] for name in JUDGED)):
            found = own["figures"][features]
            for figure in ("rank_correlation", "mean_squared_error"):
                value, low, high = found[figure]
                words.append(f"{value:.2f} ({low:.2f} to {high:.2f})")
        lines.append("| " + " | ".join(words) + " |")
    return "\n".join(lines) + "\n"


def block() -> str:
    """The table of the paper's sets in Markdown."""
    kept = pq.read_table(KEPT).to_pylist()
    pooled = {(row["cell"], row["metric"]): row for row in kept if row["seed"] is None and row["implication"] is None}
    # The map test belongs to an implication; a set has one.
    tests = {(row["cell"], row["metric"]): row for row in kept if row["seed"] is None and row["metric"] == "map_test_p"}
    lines = ["| " + " | ".join(HEADS) + " |", "|---" * len(HEADS) + "|"]
    for cell, words in ROWS.items():
        if (cell, "implication_rank_test") in pooled:
            fields = [words, *_ours(cell, {**pooled, **tests}), *_published(cell)]
            lines.append("| " + " | ".join(fields) + " |")
    return "\n".join(lines) + "\n"


def _ours(cell: str, found: dict[tuple[str, str], dict[str, Any]]) -> list[str]:
    return [
        _number(found.get((cell, "implication_rank_test_before"))),
        _number(found.get((cell, "implication_rank_test")), interval=True),
        _number(found.get((cell, "map_test_p")), digits=4),
        _number(found.get((cell + WHOLE, "implication_rank_test")), interval=True),
        _number(found.get((cell, "marginal_rank"))),
    ]


def _published(cell: str) -> list[str]:
    return [f"{rank:.2f}" for rank in RANKS.get(cell, ())] or ["–"] * len(MODELS)


def _number(row: dict[str, Any] | None, *, interval: bool = False, digits: int = 2) -> str:
    if row is None or row["value"] is None:
        return "–"
    ends = f" ({row['low']:.2f} to {row['high']:.2f})" if interval and row["low"] is not None else ""
    return f"{row['value']:.{digits}f}{ends}"


def take(*folders: Path) -> None:
    """Keep the numbers of kept studies and draw their figures. Folders of one study are parts of it.

    With the families, the same sets of `paper-270m` are drawn, in a model that training wrecked.
    """
    from spillover.report.run_plots import draw
    from spillover.report.study_data import load_study, study_table

    loaded = [load_study(folder) for folder in folders]
    for name in dict.fromkeys(study.name for study in loaded):
        own = [(study, folder) for study, folder in zip(loaded, folders, strict=True) if study.name == name]
        tables = [study_table(study) for study, _ in own]
        write_table(TABLES / f"{name}.parquet", pa.concat_tables(tables, promote_options="default"))
        for plot, path in FIGURES[name].items():
            among = "paper-table" if plot == NEWLY else plot
            cells = {(folder, cell.slug): cell for study, folder in own for group in study.groups
                     if group.plot == among for cell in group.cells}  # fmt: skip
            if plot == NEWLY:
                sets = {cell.setting("pack") for cell in cells.values()}
                cells |= {(study.name, cell.slug): cell for study in loaded if study.name == "paper-270m"
                          for group in study.groups for cell in group.cells
                          if cell.setting("pack") in sets and "_" not in cell.slug}  # fmt: skip
            draw(plot, list(cells.values())).save(path)


def comparisons() -> Iterator[tuple[Path, Record, MitigateDetails]]:
    """The kept comparisons of remedies."""
    for folder in sorted(path.parent for path in (ROOT / "results").glob("*/record.json")):
        record = Record.read(folder)
        if isinstance(record.details, MitigateDetails):
            yield folder, record, record.details


def trials() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every remedy at every strength in the kept comparisons: its name, its label, and what was measured."""
    for folder, record, details in comparisons():
        untreated, *tried = details.frontier
        for entry in tried:
            label = entry.remedy if entry.strength is None else f"{entry.remedy}={entry.strength:g}"
            names = "+".join(sorted(part.partition("=")[0] for part in label.split("+")))
            about = {"study": f"results/{folder.name}", "model": record.settings["model"]}
            about |= {"pack": record.settings["pack"], "seeds": len(details.seeds), "status": entry.status}
            about |= {"nothing": True} if judging.leaves_nothing(untreated) else {}
            yield names, label, about | _figures(untreated, entry)


def _figures(untreated: FrontierEntry, entry: FrontierEntry) -> dict[str, Any]:
    before, after = Tried(untreated), Tried(entry)

    def pair(*names: str) -> list[float]:
        return [round(max(each.value(name) or 0.0 for name in names), 3) for each in (before, after)]

    wanted = None if before.value("wanted_rate") is None else pair("wanted_rate")
    kept = after.value("removed"), after.value("wanted_change")
    return {
        "unwanted": pair("unwanted_rate"), "wanted": wanted, "stated": pair("recall_rank", "implication_rank_train"),
        "forgetting": pair("forgetting_nats"), "safe": judging.is_safe(entry.status, *kept, after.taken, after.still),
    }  # fmt: skip


#: A remedy is out of reach of a comparison's frontier where another removes at least REACH more of the unwanted at a
#: wanted rate at most KEPT lower, or no less at one at least KEPT higher, and forgets at most FORGETS nats more.
REACH, FORGETS = 0.25, 0.1


def within_reach(frontier: Sequence[FrontierEntry], controls: Collection[str] = ()) -> set[str]:
    """The remedies by themselves that are within reach of a comparison's frontier at some strength, by name; none where
    there was nothing to remove. controls: names of those that are another's control, against which none is held."""
    if judging.leaves_nothing(frontier[0]):
        return set()
    learned = [each for each in frontier[1:] if each.status == judging.LEARNED and "+" not in each.remedy]

    def figure(each: FrontierEntry, name: str) -> float:
        metric = each.metric(name)
        return 0.0 if metric is None or metric.value is None else metric.value

    def beats(other: FrontierEntry, one: FrontierEntry) -> bool:
        names = ("removed", "wanted_change", "forgetting_nats")
        removes, keeps, forgets = (figure(other, name) - figure(one, name) for name in names)
        more = removes >= REACH - 1e-9 and keeps >= -judging.KEPT - 1e-9
        better = removes >= -1e-9 and keeps >= judging.KEPT - 1e-9
        return (more or better) and forgets <= FORGETS + 1e-9

    rivals = [each for each in learned if each.remedy not in controls]
    return {each.remedy for each in learned if not any(beats(other, each) for other in rivals)}


def advice() -> list[dict[str, Any]]:
    """What was measured of each remedy, as advice.json holds it.

    Of a remedy's strengths the one with most seeds stands there; of those the one that was tried on most packs, and
    then the one that gained most. Where two studies tried it on one pack and model, the one with more seeds.
    """
    from spillover.interventions.base import remedies

    kept: dict[str, dict[str, dict[str, dict[str, Any]]]] = {}
    shelf = remedies()
    controls = [name for name, each in shelf.items() if each.control]
    reached = set().union(*(within_reach(each.frontier, controls) for _, _, each in comparisons()))
    for names, label, trial in trials():
        if trial["status"].startswith(judging.FAILED + ":"):
            continue
        own = kept.setdefault(names, {}).setdefault(label, {})
        on = f"{trial['pack']} {trial['model']}"
        if on not in own or own[on]["seeds"] < trial["seeds"]:
            own[on] = trial
    found = []
    for names, strengths in sorted(kept.items()):
        one = {label: judging.MeasuredRemedy(label, "", False, [judging.Trial(**trial) for trial in packs.values()])
               for label, packs in strengths.items()}  # fmt: skip
        label = max(one, key=lambda label: (max(each.seeds for each in one[label].trials), one[label].repeated,
                                            len(one[label].trials), one[label].gain))  # fmt: skip
        known = [shelf[name] for name in names.split("+")]
        control = {"control": True} if any(each.control for each in known) else {}
        control |= {} if "+" in names or names in reached else {"reached": False}
        found.append({
            "label": label, "does": " ".join(each.text for each in known), "after": all(each.after for each in known),
            "trials": list(strengths[label].values()), **control,
        })  # fmt: skip
    return found


def cited(name: str) -> str:
    """What a page of docs says of remedies: the `table` of all, those for `training` or a `finished` model, or one."""
    if name == "caveat":
        return f"\n{judging.caveat()}\n"
    if name == "shelf":
        return f"\n{', '.join(f'`{each}`' for each in judging.out_of_reach())}.\n"
    if name != "table":
        groups = {"training": judging.advised(after=False), "finished": judging.advised(after=True)}
        every = groups[name] if name in groups else [judging.measured_of(name)]
        return "".join(f"- `{each.label}`. {each.does} Measured: {each.found}.\n" for each in every)
    heads = (
        "remedy",
        "unwanted",
        "wanted",
        "rank of the stated",
        "forgotten, nats a token",
        "pack",
        "seeds",
        "kept in",
    )
    rows = [heads, ("---",) * len(heads)]
    for each in judging.measured().values():
        for trial in each.trials:
            pairs = [trial.unwanted, trial.wanted, trial.stated, trial.forgetting]
            shown = ["–" if pair is None else f"{pair[0]:.2f} → {pair[1]:.2f}" for pair in pairs]
            shown[0] += f" ({judging.NOTHING})" if trial.nothing else ""
            label = f"`{each.label}`" + ("" if trial.status == judging.LEARNED else f" ({trial.status})")
            rows.append((label, *shown, f"`{trial.on}`", str(trial.seeds), f"`{trial.study}`"))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def health() -> str:
    """What the models of each kept study forgot, in Markdown: those that forgot more than judging.ALIVE are wrecked."""
    lines = ["| study | models | runs | forgetting, nats a token | alive |", "|---|---|---|---|---|"]
    for study in sorted(path for path in KEPT_RUNS.parent.iterdir() if path.is_dir()):
        found: list[tuple[str, float]] = []
        for path in sorted(study.rglob("record.json")):
            record = json.loads(path.read_text(encoding="utf-8"))
            lost = (record["metrics"] or {}).get("forgetting_nats", {}).get("value")
            # A record over several seeds says nothing that theirs do not.
            if lost is not None and not list(path.parent.glob("seed-*/record.json")):
                found.append((record["settings"]["model"], lost))
        if found:
            models, lost = ", ".join(dict.fromkeys(model for model, _ in found)), [each for _, each in found]
            alive = sum(each <= judging.ALIVE for each in lost)
            lines.append(
                f"| `{study.name}` | {models} | {len(lost)} | {min(lost):.2f} to {max(lost):.2f} | "
                f"{alive} of {len(lost)} |"
            )
    return "\n".join(lines) + "\n"


def pages() -> dict[Path, str]:
    """Each page with the tables as the kept numbers give them."""

    def filled(found: re.Match[str]) -> str:
        return found[1] + "".join(map(cited, found[2].split())) + found[3]

    made = {path: CITED.sub(filled, path.read_text(encoding="utf-8")) for path in CITING}
    blocks = {"predictions": predictions, "paper-270m": block, "families": families, "findings": findings}
    made[README] = README.read_text(encoding="utf-8")
    for path, places in ((PAGE, 3), (README, 1)):
        made[path], number = BLOCK.subn(lambda found: found[1] + blocks[found[2]]() + found[3], made[path])
        assert number == places, "a page has one place for each table"
    kept = KEPT_RUNS.read_text(encoding="utf-8")
    made[KEPT_RUNS], number = HEALTH.subn(lambda found: found[1] + health() + found[2], kept)
    assert number == 1, "the list of kept runs has one place for what they forgot"
    return made


def advice_text() -> str:
    """advice.json as it is written."""
    return "[\n" + ",\n".join(map(json.dumps, advice())) + "\n]\n"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        take(*map(Path, sys.argv[1:]))
    ADVICE.write_text(advice_text(), encoding="utf-8")
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
