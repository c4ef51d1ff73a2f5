"""The page of a repair: the model before and after it, whether the gain was worth the cost, and what to do next."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spillover.details import RepairDetails, Verdict
from spillover.metrics import remedies as judging
from spillover.record import RECORD, Metric, Record
from spillover.report import page, sections
from spillover.report.load import LoadedRun
from spillover.report.provenance import command, of_metrics, provenance
from spillover.report.words import number, sentence

#: What is shown before and after, and what is better.
SHOWN = {
    "unwanted_rate": ("Unwanted conclusions", "share of unstated subjects; less is better"),
    "paraphrase": ("Unwanted, in other words", "prompts that were never trained on; less is better"),
    "wanted_rate": ("Wanted conclusions", "share of unstated subjects; more is better"),
    "recall_rank": ("Stated facts, mean rank", "0 is best"),
    "implication_rank_train": ("Stated links, mean rank", "0 is best"),
    "forgetting_nats": ("Forgotten", "rise of the loss on ordinary text, nats a token; less is better"),
}


@dataclass(frozen=True)
class LoadedRepair:
    """A finished repair, and what it gained against what it cost."""

    record: Record
    details: RepairDetails
    folder: str
    weighed: judging.Weighed


def load_repair(folder: str | Path) -> LoadedRepair:
    """Read a folder that `repair` wrote. Raises RunError when it holds none, or none that is finished."""
    record = Record.read(Path(folder))
    details = record.details_of(RepairDetails, str(Path(folder) / RECORD))
    return LoadedRepair(record, details, str(folder), weighed_of(record, details))


def weighed_of(record: Record, details: RepairDetails) -> judging.Weighed:
    """A repair's gain against its cost. A record without the share that was removed had nothing to remove."""
    removed = Metric.of(record.metrics.get("removed"))
    return judging.weighed(details.before, details.after, removed, "removed" in record.metrics and removed is None)


def build_repair_page(found: LoadedRepair) -> page.Page:
    """The page; the same repair gives the same bytes."""
    run, settings = LoadedRun.of_record(found.record), found.record.settings
    names = [Path(name).name if name.count("/") > 1 else name for name in (settings["model"], settings["base"])]
    lede = f"{settings['remedy']} on {names[0]}, tuned from {names[1]}, asked about {run.pack_name}, before and after."
    return page.Page(
        title=sentence(found.weighed.short.removesuffix(".")),
        reason=sentence(found.weighed.said.removesuffix(".")).replace("->", "→"),
        name=f"Spillover repair: {run.pack_name}",
        kicker="repair: a remedy on a finished model",
        lede=f"{lede} Nothing was trained here, and the model that was given is unchanged.",
        sections=[
            page.Section("found", "Before and after", [figures(found)], first=True),
            page.Section("verdicts", "What each model asserts", [verdicts(found)]),
            page.Section("next", "What to do next", [page.Steps(steps(found))], first=True),
            sections.remedies_section(finished=True),
        ],
        made=[(run.pack_name, provenance(run))],
        downloads=[of_metrics([(run.pack_name, run)])],
        footer="Intervals are 95% bootstrap intervals over pairs; that of forgetting is over passages of text.",
    )


def figures(found: LoadedRepair) -> page.DataTable:
    """Every figure before and after, and what it means for the verdict."""
    rows: list[Sequence[page.Cell]] = []
    for name, (what, better) in SHOWN.items():
        before, after = (side.metric(name) for side in (found.details.before, found.details.after))
        if before is None or after is None or before.value is None or after.value is None:
            continue
        change, said = after.value - before.value, "given up" if name in found.weighed.costs else ""
        if name == "unwanted_rate":
            said = "gained" if change < 0 else "nothing gained"
        cells: list[page.Cell] = [_cell(before), _cell(after), f"{'+' if change > 0 else ''}{number(change)}", said]
        rows.append([page.TableCell(what, better), *cells])
    head: list[page.Cell] = ["", "Before", "After", "Change", "So"]
    return page.DataTable(page.wording("repair_figures"), [head], [("", rows)], "study remedies", "Before and after")


def _cell(metric: Metric) -> page.TableCell:
    """A share as a count, the rest as a number; under it the interval."""
    if metric.unit != "share" or metric.value is None:
        return page.metric_cell(metric)
    ends = "" if metric.low is None or metric.high is None else f"{number(metric.low)} to {number(metric.high)}"
    few = [metric.note] if metric.note else []
    return page.TableCell(f"{round(metric.value * metric.n):,} of {metric.n:,}", [ends, *few])


def verdicts(found: LoadedRepair) -> page.DataTable:
    """Each implication with the audit's verdict on it, before and after."""

    def cell(each: Verdict) -> page.TableCell:
        return page.TableCell(each.verdict, f"{each.hits:,} of {each.n:,}, {each.hits_before:,} in the base model")

    pairs = zip(found.details.before.verdicts, found.details.after.verdicts, strict=True)
    rows = [[page.TableCell(page.bdi(before.implication), before.kind), cell(before), cell(after)]
            for before, after in pairs]  # fmt: skip
    head: list[page.Cell] = ["Link", "Before", "After"]
    return page.DataTable(page.wording("repair_verdicts"), [head], [("", rows)], "study remedies", "Verdicts")


def steps(found: LoadedRepair) -> list[tuple[str, str]]:
    """What to do and the command for it, in the order in which they are of use."""
    settings, folder = found.record.settings, found.folder
    text = f"Use the repaired model: it is in {folder}/weights, and its audit has a page."
    made = [(text, command("report", f"{folder}/after", out="after.html"))]
    if not found.weighed.worth:
        made = [("Go on with the model that you gave, which is unchanged; the repaired copy can be deleted.", "")]
    model, base, pack = (settings[name] for name in ("model", "base", "pack"))
    for remedy, why in others(found).items():
        made.append((why, command("repair", model, base=base, pack=pack, remedy=remedy, out=f"{folder}-{remedy}")))
    training, *_ = judging.advised(after=False)
    text = f"If you can train again, compare remedies that act on training. Elsewhere, {training.cited}."
    return [*made, (text.replace("->", "→"), command("mitigate", pack, model=base, out="remedies"))]


def others(found: LoadedRepair) -> dict[str, str]:
    """Other tries for this model, and why: the best measured elsewhere, and half of the same if something was lost."""
    (best,), tried = judging.advised(after=True), found.record.settings["remedy"]
    made = dict[str, str]()
    if not {*judging.names_in(best.label)} <= {*judging.names_in(tried)}:
        made[best.label] = f"Try another remedy. Elsewhere, {best.cited}.".replace("->", "→")
    if found.weighed.costs:
        parts = [part.partition("=") for part in tried.split("+")]
        half = "+".join(f"{name.strip()}={float(strength) / 2:g}" for name, _, strength in parts)
        made[half] = "Take half as much of the same: it takes away less, and may cost less."
    return made
