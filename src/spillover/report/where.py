"""The page of `where`: which part of a change carries what, and how lazy the training was."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.artist import Artist
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from spillover.details import Laziness, PatchedPart, Preference, WhereDetails
from spillover.errors import RunError, UsageError
from spillover.metrics.intervals import FEW
from spillover.metrics.patching import GROUPS
from spillover.record import EVERY_LAYER, EXPANSION, RECORD, UNTUNED, WHOLLY, Metric, Record
from spillover.report import page
from spillover.report.drawing import BLUE, INK, PURPLE, VERMILLION, Drawing, finish, limits, panels, plain, plot
from spillover.report.load import LoadedRun, metric_of
from spillover.report.provenance import of_metrics, provenance, table_link
from spillover.report.words import number

#: Models that are no part of the change, and what the page calls them.
BASE, TUNED, LINEARISED = UNTUNED, WHOLLY, EXPANSION
ENDS = {BASE: "base model", TUNED: "tuned model", LINEARISED: "linearised at the base"}
#: What each group is called, and its colour and marker.
WORDS = {"recall": "stated facts", "links": "stated links", "wanted": "wanted conclusions",
         "unwanted": "unwanted conclusions"}  # fmt: skip
#: Bars show their interval through their colour.
_FILL = 0.85
LOOKS = {"recall": (INK, "o"), "links": (PURPLE, "D"), "wanted": (BLUE, "^"), "unwanted": (VERMILLION, "s")}


@dataclass(frozen=True)
class PatchedModels:
    """record: of `where`. patched: what it holds of every model, in the order measured: by part, and whether the tuned
    model lacks it (else the base model has it alone)."""

    record: Record
    patched: Mapping[tuple[str, bool], PatchedPart]
    laziness: Laziness

    @property
    def trained(self) -> Mapping[str, Any]:
        """The settings of the run that was taken apart."""
        return self.record.details_of(WhereDetails).trained

    @property
    def preferences(self) -> Sequence[Preference]:
        """What the change of each seed is worth; none in a folder that was written before this was measured."""
        return self.record.details_of(WhereDetails).preferences

    def worth(self, name: str) -> list[float]:
        """One number of `preferences` by seed; `disturbed` is the mean over its draws."""
        values = (getattr(each, name) for each in self.preferences)
        return [float(np.mean(value)) for value in values]

    @property
    def passes(self) -> int:
        """How many passes over its rows that run made."""
        return int(self.trained.get("epochs") or 0)

    def metric(self, name: str, part: str, left_out: bool = False) -> Metric | None:
        """A metric of one model; None when it was not measured."""
        own = self.patched.get((part, left_out))
        return metric_of(own.metric(name)) if own else None

    def rate(self, group: str, part: str, left_out: bool = False) -> float | None:
        """Share of the group's subjects whose top answer is the expected one in that model."""
        metric = self.metric(f"{group}_rate", part, left_out)
        return metric.value if metric else None

    def moved(self, part: str) -> str:
        own = self.patched.get((part, False))
        return "" if own is None or own.moved is None else f"{100 * own.moved:.2f}%"

    def alignment(self, group: str, name: str) -> Metric | None:
        """How well the expansion at the base predicts the change of a group's answers: a cosine or an error."""
        return metric_of(self.laziness.alignment.get(group, {}).get(name))

    def parts(self, *kinds: str) -> list[str]:
        return list(dict.fromkeys(part for (part, _), each in self.patched.items() if each.kind in kinds))

    @property
    def groups(self) -> list[str]:
        every = self.patched.values()
        return [name for name in GROUPS if any(metric_of(each.metric(f"{name}_rate")) for each in every)]

    def added(self, group: str) -> float:
        """What training added to a group's rate; 0 when it was not asked about."""
        base, tuned = self.rate(group, BASE), self.rate(group, TUNED)
        return 0.0 if base is None or tuned is None else tuned - base

    def share(self, group: str, part: str, left_out: bool) -> float | None:
        """Of what training added to a group's rate, the share that a part carries alone, or that is lost without it."""
        end, own = self.rate(group, TUNED if left_out else BASE), self.rate(group, part, left_out)
        if self.added(group) <= 0 or end is None or own is None:
            return None
        return (end - own if left_out else own - end) / self.added(group)

    def best(self, group: str, *, left_out: bool) -> tuple[str, float] | None:
        """The component that carries most alone, or without which most is lost, and the share."""
        shares = {part: self.share(group, part, left_out) for part in self.parts("component")}
        known = {part: share for part, share in shares.items() if share is not None}
        return max(known.items(), key=lambda item: item[1]) if known else None

    def rows(self, *kinds: str) -> list[dict[str, Any]]:
        """Every figure of the models of these kinds (whole, component, layer), one row a model and group."""
        found = []
        for ((part, left_out), each), group in product(self.patched.items(), self.groups):
            rate, rank, free = (metric_of(each.metric(f"{group}_{key}")) for key in ("rate", "rank", "free"))
            if rate and each.kind in kinds:
                found.append({
                    "part": ENDS.get(part, part), "left_out": left_out, "group": WORDS[group], "rate": rate.value,
                    "low": rate.low, "high": rate.high, "mean_rank": rank.value if rank else None,
                    "by_chance": free.value if free else None, "n": rate.n, "clusters": rate.clusters,
                })  # fmt: skip
        return found


def load_where(folder: str | Path) -> PatchedModels:
    """Read a folder that `where` wrote. Raises RunError when it holds nothing finished of it."""
    return where_of(Record.read(Path(folder)), where=str(Path(folder) / RECORD))


def where_of(record: Record, where: str = RECORD) -> PatchedModels:
    """What a record of `where` holds. Raises RunError when it is none, or none that is finished."""
    details = record.details_of(WhereDetails, where)
    if details.laziness is None:
        do = "Give the same `where` command again; it goes on where it stopped"
        raise RunError("this is not finished", where=where, do=do)
    return PatchedModels(record, {(each.part, each.left_out): each for each in details.parts}, details.laziness)


#: A part carries a group when it alone brings this share of what training added; less than LEAST added says nothing.
MOST, LEAST = 0.5, 0.1
_NOUNS = {"recall": "the facts", "wanted": "the wanted conclusions", "unwanted": "the unwanted conclusions"}
#: What a title calls the components; the tables have their short names.
_PARTS = {
    "output-value": "attention’s output-value matrices", "key-query": "attention’s key-query matrices",
    "mlp": "the MLP layers", "embeddings": "the embeddings", "rest": "norms and biases",
}  # fmt: skip
#: And an axis.
_TICKS = {"output-value": "attention:\noutput-value", "key-query": "attention:\nkey-query", "mlp": "MLP layers",
          "rest": "norms, biases"}  # fmt: skip


def while_training(every: Sequence[PatchedModels]) -> list[PatchedModels]:
    """The same run taken apart after different numbers of passes, from the fewest on.

    Raises UsageError when two have as many passes, or when one of them was not measured by position.
    """
    do = "Name `where` folders of runs that differ in --epochs alone, or one of them"
    if len({found.passes for found in every}) < len(every):
        raise UsageError("two of these runs were trained for equally many passes", where="report", do=do)
    if not all(found.parts("position") for found in every):
        do = "Give the `where` commands again, without --positions none"
        raise UsageError("one of these says nothing by position", where="report", do=do)
    return sorted(every, key=lambda found: found.passes)


def apart(every: Sequence[PatchedModels]) -> list[str]:
    """The settings of their training, but for the number of passes, in which these runs differ."""
    return [key for key in dict.fromkeys(key for found in every for key in found.trained) if key not in _FREE
            and any(found.trained.get(key) != every[0].trained.get(key) for found in every)]  # fmt: skip


def build_comparison_page(every: Sequence[PatchedModels]) -> page.Page:
    """Changes of runs that were trained differently: what each concludes, and what it is worth to gradient descent.

    Raises UsageError for runs of different packs, models or seeds, and for one of which this was not measured.
    """
    keys = apart(every)
    if strange := [key for key in keys if key in ("pack", "model", "dtype", "seed", "seeds")]:
        what = f"these runs differ in {', '.join(strange)}"
        raise UsageError(what, where="report", do="Name `where` folders of one pack and model, or one of them")
    if not all(found.preferences for found in every):
        what = "one of these does not say what its change is worth"
        raise UsageError(what, where="report", do="Give its `where` command again, with another --out")
    named = {", ".join(f"{key} {found.trained.get(key) or 'none'}" for key in keys): found for found in every}
    if len(named) < len(every):
        raise UsageError("two of these are of one run", where="report", do="Name each run once")
    pages = {label: build_where_page(found) for label, found in named.items()}
    return dataclasses.replace(
        next(iter(pages.values())),
        title=_comparison_title(named),
        name="Spillover where: changes compared",
        lede=f"{every[0].trained.get('model')}, tuned on {every[0].trained.get('pack')}; "
        f"{len(every)} ways of training.",
        sections=[
            page.Section("found", "What was found", [_worth_table(named)], page.wording("where_worth"), first=True),
            page.limits_section([page.wording(name) for name in ("where_limit_other", "where_limit_worth")]),
        ],
        # Whichever run it is of that forgot too much.
        notices=list(dict.fromkeys(f"{label}: {said}" for label, own in pages.items() for said in own.notices)),
        made=[(label, made) for label, own in pages.items() for _, made in own.made],
        downloads=[],
        footer="Ranges are over seeds; a rate has its interval over clusters of a pair and a seed.",
    )


def preference_finding(found: PatchedModels) -> str:
    """What the change is worth to gradient descent, in a sentence."""
    before, after, efficiency, norm, noise = (
        float(np.mean(found.worth(name))) for name in ("before", "after", "efficiency", "squared_norm", "disturbed")
    )
    return (
        f"The change lowers the loss on the stated rows from {number(before)} to {number(after)} nats a row: by "
        f"{number(efficiency)} for each unit of its squared norm, {number(norm)}. Orthogonal noise of the same norm "
        f"adds {number(noise)}."
    )


def _comparison_title(named: Mapping[str, PatchedModels]) -> str:
    """Whether what concludes most is what takes most loss away for its length."""
    said = {label: number(float(np.mean(found.worth("efficiency")))) for label, found in named.items()}
    for group in ("unwanted", "wanted"):
        rates = {label: found.rate(group, TUNED) or 0.0 for label, found in named.items()}
        most, least = max(rates, key=lambda label: rates[label]), min(rates, key=lambda label: rates[label])
        if rates[most] - rates[least] >= LEAST:
            return (
                f"The change that concludes most ({most}: {rates[most]:.0%} of the {WORDS[group]}) takes away "
                f"{said[most]} nats a stated row for each unit of its squared norm; the one that concludes least "
                f"({least}: {rates[least]:.0%}) {said[least]}."
            )
    listed = "; ".join(f"{label}: {worth}" for label, worth in said.items())
    return f"All conclude alike; nats a stated row that are taken away for each unit of squared norm: {listed}."


def _worth_table(named: Mapping[str, PatchedModels]) -> page.DataTable:
    """A row a change: the rates of the tuned model, and what the change is worth."""
    groups = next(iter(named.values())).groups
    names = {"before": "loss before (nats per stated row)", "after": "loss after",
             "squared_norm": "squared norm of the change", "efficiency": "loss removed per unit of that norm",
             "disturbed": "loss added by noise"}  # fmt: skip
    rows: list[list[page.Cell]] = []
    for label, found in named.items():
        cells: list[page.Cell] = [label, *(page.metric_cell(found.metric(f"{group}_rate", TUNED)) for group in groups)]
        for name in names:
            values = found.worth(name)
            spread = f"{number(min(values))} to {number(max(values))}" if len(values) > 1 else ""
            cells.append(page.TableCell(number(float(np.mean(values))), spread))
        rows.append(cells)
    head = ["Trained with", *(WORDS[group] for group in groups), *names.values()]
    return page.DataTable(page.wording("where_worth_table"), [head], [("", rows)], label="What each change is worth")


def build_training_page(every: Sequence[PatchedModels]) -> page.Page:
    """The page of `where` at the last of several checkpoints, and how what carries what moved. See `while_training`."""
    ordered = while_training(every)
    last, said = build_where_page(ordered[-1]), training_finding(ordered)
    drawn = page.figure("where-training", ordered, "where-training", page.wording("where_training"), wide=True)
    moving = page.Section("training", "While it trained", [drawn], " ".join(said.values()), first=True)
    # What nobody stated is what the page is about.
    title = next((said[group] for group in ("unwanted", "wanted", "links", "recall") if group in said), last.title)
    return dataclasses.replace(last, title=title, sections=[last.sections[0], moving, *last.sections[1:]])


def build_where_page(found: PatchedModels) -> page.Page:
    """The page of `where`: what carries what, every figure, and how lazy training was."""
    record = found.record
    trained = found.trained
    # The shared parts of a page read the settings of the run that was taken apart.
    own = {key: trained.get(key) for key in ("pack", "model", "lora", "freeze_embeddings")}
    kept = {f"run: {key}": trained[key] for key in (*own, "epochs", "lr", "batch", "remedy", "weight_decay")
            if key in trained}  # fmt: skip
    run = LoadedRun.of_record(dataclasses.replace(record, settings={**kept, **record.settings, **own}))
    components = page.figure("where-components", found, "where-components", page.wording("where_components"), wide=True)
    layers = page.figure("where-layers", found, "where-layers", page.wording("where_layers"))
    positions = page.figure("where-positions", found, "where-positions", page.wording("where_positions"), wide=True)
    by_position = [page.Section("positions", "Where in the prompt", [positions], position_finding(found))]
    no_positions = record.details_of(WhereDetails).no_positions
    rows = found.rows("whole", "component", "layer", "position", "activation")
    seeds = "one seed" if len(run.seeds) == 1 else f"{len(run.seeds)} seeds"
    clusters = max((row["clusters"] for row in rows), default=0)
    lazy = Markup("{} Computed by {}.").format(page.wording("where_lazy"), plain(found.laziness.how))
    size = found.moved(TUNED) and f" The matrices that changed moved by {found.moved(TUNED)} of their norm."
    limits = [page.wording(name) for name in ("where_limit_other", "where_limit_rule")]
    if no_positions:
        limits.append(Markup("Where in the prompt it acts: {}.").format(no_positions))
    few = "Fewer than ten pairs and seeds: the intervals are too rough for a verdict. Repeat it with more seeds."
    return page.Page(
        title=title(found),
        name=f"Spillover where: {run.pack_name}",
        kicker="where: which part of the change carries what",
        lede=f"{trained.get('model')}, tuned on {trained.get('pack')}; {seeds}.{size}",
        notices=[text for text in (run.warning, few if clusters < FEW else "") if text],
        sections=[
            page.Section("found", "What was found", [page.Cards(cards(found), facts=True)], hidden=True, first=True),
            page.Section("parts", "Where it lives", [components, page.FigureGrid([layers])], first=True),
            *(by_position if found.parts("position") else []),
            page.limits_section(limits),
            page.Section("terms", "How to read it", [page.terms("where")], aside=True),
            page.Section("lazy", "How lazy it was", [_lazy_table(found)], lazy),
            *(
                [
                    page.Section(
                        "worth",
                        "What it is worth to gradient descent",
                        [_worth_table({str(trained.get("remedy") or "the run"): found})],
                        page.wording("where_worth"),
                    )
                ]
                if found.preferences
                else []
            ),
            page.Section("table", "Every figure", [_table(found)]),
        ],
        made=[(run.pack_name, provenance(run))],
        downloads=[
            table_link("spillover-where", "Every part", list(rows[0]) if rows else [], rows),
            of_metrics([(run.pack_name, run)]),
        ],
        footer="Intervals are 95% bootstrap intervals over clusters of a pair and a seed.",
    )


def title(found: PatchedModels) -> str:
    """The page in one sentence: what recall and what the conclusions rest on."""
    if not found.parts("component"):
        return _lazy_title(found)
    texts, last = list[str](), ""
    for group, noun in _NOUNS.items():
        if found.added(group) < LEAST:
            continue
        part, share = found.best(group, left_out=False) or ("", 0.0)
        if share >= MOST:
            # A component that carries several is named once.
            named = _PARTS.get(part, part)
            texts.append(f"{'' if part == last else f'{named} alone bring '}{100 * share:.0f}% of {noun}")
        else:
            texts.append(f"no part alone brings half of {noun}")
        last = part if share >= MOST else ""
    if not texts:
        return "Training added too little to any rate to say where it lives."
    listed = texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])}, and {texts[-1]}"
    return f"Of what training added to the model’s answers, {listed}."


#: What a sentence calls the tokens of a role.
_AT = {"subject": "the subject’s tokens", "other words": "the other words", "last token": "the last token"}


def position_finding(found: PatchedModels) -> str:
    """Of what training added to each group, what the tuned weights bring at the tokens of one role alone, and what is
    lost without them there."""
    said = []
    for group in found.groups:
        if found.added(group) < LEAST:
            continue
        parts = {part: role for role in _AT for part in found.parts("position") if part == f"{role}, {EVERY_LAYER}"}
        shares = {left_out: {role: share for part, role in parts.items()
                             if (share := found.share(group, part, left_out)) is not None}
                  for left_out in (False, True)}  # fmt: skip
        if not all(shares.values()):
            continue
        (alone, most), (needed, lost) = (max(own.items(), key=lambda item: item[1]) for own in shares.values())
        said.append(
            f"{WORDS[group].capitalize()}: the tuned weights at {_AT[alone]} alone bring {_share(most)} of what "
            f"training added; without them at {_AT[needed]}, {_share(lost)} of it is lost."
        )
    return " ".join(said)


#: Settings in which checkpoints of one training may differ.
_FREE = frozenset({"epochs", "out", "save", "json", "browse", "evaluate_every", "keep_going"})


def training_finding(every: Sequence[PatchedModels]) -> dict[str, str]:
    """For each group to which training added something: at the tokens of which role the tuned weights alone bring most
    of that, at the first checkpoint and at the last, in a sentence."""
    said = {}
    for group in every[-1].groups:
        steps = []
        for found in every:
            parts = {role: f"{role}, {EVERY_LAYER}" for role in _AT}
            shares = {role: share for role, part in parts.items()
                      if (share := found.share(group, part, False)) is not None}  # fmt: skip
            if shares and found.added(group) >= LEAST:
                role, share = max(shares.items(), key=lambda item: item[1])
                passes = f"after {found.passes} pass{'' if found.passes == 1 else 'es'}"
                steps.append((_AT[role], f"{_share(share)} {passes}"))
        if steps:
            (first, before), (last, after) = steps[0], steps[-1]
            moved = f"{first} ({before})" + (f", then at {last} ({after})" if last != first else "")
            if last == first and len(steps) > 1:
                moved = f"{first} ({before}, {after})"
            said[group] = f"{WORDS[group].capitalize()}: the tuned weights alone bring most at {moved}."
    return said


def _share(share: float) -> str:
    return "all" if share >= 0.995 else f"{max(share, 0):.0%}"


def _lazy_title(found: PatchedModels) -> str:
    """How far a straight line from the base model's weights would have come, of what training added most to."""
    group = max(found.groups, key=found.added, default="")
    linear, tuned = found.rate(group, LINEARISED), found.rate(group, TUNED)
    if linear is None or tuned is None or found.added(group) < LEAST:
        return "Training added too little to any rate to say how it came about."
    return (
        f"A straight line from the base model, along its gradients, would get {100 * linear:.0f}% of the "
        f"{WORDS[group]}; the tuned model gets {100 * tuned:.0f}%."
    )


def cards(found: PatchedModels) -> list[page.Card]:
    """One a group: from what to what training took it, the part that brings most alone, and the one most needed."""
    made = []
    for group in found.groups:
        base, tuned, linear = (found.rate(group, name) for name in (BASE, TUNED, LINEARISED))
        text = "Answered so, before and after training."
        if found.added(group) < LEAST:
            text += " Training added too little to say where it lives."
        else:
            if alone := found.best(group, left_out=False):
                text += f" The change of {_PARTS.get(alone[0], alone[0])} alone brings {alone[1]:.0%} of this."
            if without := found.best(group, left_out=True):
                text += f" With {_PARTS.get(without[0], without[0])} as before, {without[1]:.0%} of it is lost."
            if not found.parts("component") and linear is not None:
                text += f" A straight line from the base model, along its gradients, would get {linear:.0%}."
        tone = group if group in ("wanted", "unwanted") else ""
        value = " → ".join("–" if rate is None else f"{rate:.0%}" for rate in (base, tuned))
        made.append(page.Card(WORDS[group].capitalize(), [page.Paragraph(text, "small")], tone, value=value))
    return made


def _table(found: PatchedModels) -> page.DataTable:
    ends = [part for part in (BASE, LINEARISED, TUNED) if (part, False) in found.patched]
    kinds = {"Components": "component", "Layers": "layer", "Weights by position": "position",
             "Activations by position": "activation"}  # fmt: skip
    groups = [("Whole models", ends), *((heading, found.parts(kind)) for heading, kind in kinds.items())]
    caption = page.wording("where_table")
    spans = [page.TableCell(WORDS[group], columns=2) for group in found.groups]
    head = [page.TableCell("Part", rows=2), page.TableCell("moved", rows=2), *spans]
    rows = [(heading, [_row(found, part) for part in parts]) for heading, parts in groups if parts]
    return page.DataTable(caption, [head, ["alone", "all but it"] * len(spans)], rows, label="Every figure", box="long")


def _row(found: PatchedModels, part: str) -> list[page.Cell]:
    cells: list[page.Cell] = [ENDS.get(part, part), found.moved(part) or "–"]
    for group, left_out in product(found.groups, (False, True)):
        rate, rank, free = (found.metric(f"{group}_{key}", part, left_out) for key in ("rate", "rank", "free"))
        small = [f"{name} {number(metric.value)}" for name, metric in (("rank", rank), ("chance", free)) if metric]
        cells.append(page.metric_cell(rate, *small))
    return cells


def _lazy_table(found: PatchedModels) -> page.DataTable:
    names = ("cosine_between", "relative_error_between", "cosine", "relative_error")
    rows: list[list[page.Cell]] = []
    for group in found.groups:
        cells = [page.metric_cell(found.alignment(group, name)) for name in names]
        rows.append([WORDS[group], *cells, *(number(found.rate(group, part)) for part in (BASE, LINEARISED, TUNED))])
    compared = [f"{what} {over}" for over in ("between candidates", "of log-probabilities")
                for what in ("cosine", "relative error")]  # fmt: skip
    head = ["Asked about", *compared, "base model", "linearised", "tuned model"]
    return page.DataTable(page.wording("where_lazy_table"), [head], [("", rows)], label="How lazy it was")


_SIDES = ((False, BASE, "alone in the base model"), (True, TUNED, "all of the change but it"))


@plot("where-components", of="where")
def draw_where_components(found: PatchedModels, name: str = "where-components") -> Drawing | None:
    """Bars of the ends and every component. None when no component was measured."""
    parts = found.parts("component")
    if not parts or not found.groups:
        return None
    shown = [part for part in (BASE, *parts, TUNED) if (part, False) in found.patched]
    height = 0.8 / len(found.groups)
    with panels(1.2 + 0.62 * len(shown), 2, 9.6, beside=True) as (figure, axes):
        for side, (left_out, _, title) in zip(axes, _SIDES, strict=True):
            for (place, part), (index, group) in product(enumerate(shown), enumerate(found.groups)):
                metric = found.metric(f"{group}_rate", part, left_out and part not in (BASE, TUNED))
                middle = place - 0.4 + (index + 0.5) * height
                if metric and metric.value is not None:
                    side.barh([middle], [metric.value], height=0.86 * height, color=LOOKS[group][0], alpha=_FILL)
                    if ends := limits(metric):
                        side.plot(ends, [middle, middle], color=INK, linewidth=1, alpha=0.55)
            side.set(title=title, xlim=(0, 1), xlabel="share of questions answered so")
            side.grid(axis="x", color=INK, alpha=0.12, linewidth=0.6)
        axes[0].set_yticks(range(len(shown)), [_TICKS.get(part, ENDS.get(part, part)) for part in shown])
        axes[0].set_ylim(len(shown) - 0.4, -0.6)
        rows = found.rows("whole", "component")
        handles = {WORDS[group]: Patch(color=LOOKS[group][0], alpha=_FILL) for group in found.groups}
        sides = {False: "alone", True: "left out"}
        said = "; ".join(f"{row['part']} {sides[row['left_out']]}: {row['group']} {row['rate']:.2f}" for row in rows
                         if row["part"] in parts)  # fmt: skip
        return finish(figure, name, "What each component carries", f"{said}.", rows, handles, ncols=len(handles))


@plot("where-layers", of="where")
def draw_where_layers(found: PatchedModels, name: str = "where-layers") -> Drawing | None:
    """A point a layer; dashed, the base model above and the tuned one below. None when no layer was measured."""
    layers = [part for part in found.parts("layer") if part.startswith("layer ")]
    if not layers or not found.groups:
        return None
    with panels(5.6, 2) as (figure, axes):
        handles: dict[str, Artist] = {}
        for side, (left_out, end, title) in zip(axes, _SIDES, strict=True):
            measured = [part for part in layers if (part, left_out) in found.patched]
            numbered = [int(part.split()[1]) for part in measured]
            for group in found.groups:
                colour, marker = LOOKS[group]
                rates = np.array([found.rate(group, part, left_out) for part in measured], dtype=float)
                handles[WORDS[group]] = side.plot(numbered, rates, color=colour, marker=marker, markersize=5,
                                                  linewidth=1.4, clip_on=False)[0]  # fmt: skip
                if (reference := found.rate(group, end)) is not None:
                    side.axhline(reference, color=colour, linewidth=1, linestyle=(0, (4, 3)), alpha=0.7, zorder=0)
            side.set(ylim=(0, 1), ylabel=f"share answered so,\n{title}")
            side.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)
        axes[1].set_xlabel("layer")
        axes[1].xaxis.set_major_locator(MaxNLocator(integer=True))
        said = "; ".join(_extremes(found, group, layers) for group in found.groups)
        return finish(figure, name, "What each layer carries", f"{len(layers)} layers. {said}.", found.rows("layer"),
                      handles, ncols=2, handlelength=2)  # fmt: skip


def _extremes(found: PatchedModels, group: str, layers: Sequence[str]) -> str:
    """The layer that carries most of a group alone, and the one without which most is lost."""
    ends = []
    for choose, left_out, words in ((max, False, "most alone in"), (min, True, "least without")):
        rates = {part: rate for part in layers if (rate := found.rate(group, part, left_out)) is not None}
        best = choose(rates, key=lambda part: rates[part])
        ends.append(f"{words} {best} ({rates[best]:.2f})")
    return f"{WORDS[group]}: {', '.join(ends)}"


@plot("where-positions", of="where")
def draw_where_positions(found: PatchedModels, name: str = "where-positions") -> Drawing | None:
    """A map a group: tokens by layers, the rate with the tuned weights there alone above, and with the tuned model's
    activations below. None when nothing was measured by position."""
    rows = {"position": "weights there alone", "activation": "activations behind it"}
    cells = {kind: [part.split(", ", 1) for part in found.parts(kind)] for kind in rows}
    if not cells["position"] or not found.groups:
        return None
    tokens = list(dict.fromkeys(role for role, _ in cells["position"]))
    with panels(4.6, 1, 9.6) as (figure, (first,)):
        first.remove()
        grid = figure.subplots(2, len(found.groups), squeeze=False, sharey=True)
        for (line, (kind, what)), (column, group) in product(enumerate(rows.items()), enumerate(found.groups)):
            axes, places = grid[line, column], list(dict.fromkeys(place for _, place in cells[kind]))
            rates = np.array([[found.rate(group, f"{role}, {place}") for place in places] for role in tokens], float)
            image = axes.imshow(rates, cmap="Blues", vmin=0, vmax=1, aspect="auto")
            for y, x in product(range(len(tokens)), range(len(places))) if len(places) < 9 else ():
                axes.text(x, y, f"{rates[y, x]:.2f}"[-3:] if rates[y, x] < 1 else "1", ha="center", va="center",
                          fontsize=7, color="white" if rates[y, x] > 0.6 else INK)  # fmt: skip
            axes.set_yticks(range(len(tokens)), tokens)
            short = list(map(_short, places))
            shown = range(0, len(places), -(-len(places) // 8))
            axes.set_xticks(list(shown), [short[each] for each in shown], rotation=45, fontsize=8)
            axes.set_title(WORDS[group] if line == 0 else "", fontsize=10)
            if column == 0:
                axes.set_ylabel(what)
            if line == 1:
                axes.set_xlabel("layer")
        bar = figure.colorbar(image, ax=grid, shrink=0.7, pad=0.01)
        bar.set_label("share of questions answered so")
        bar.outline.set_visible(False)
        said = f"{position_finding(found)} The base model and the tuned one get " + "; ".join(
            f"{WORDS[group]} {found.rate(group, BASE) or 0:.2f} and {found.rate(group, TUNED) or 0:.2f}"
            for group in found.groups
        )
        return finish(figure, name, "Where in the prompt", f"{said}.", found.rows("position", "activation"))


def _short(place: str) -> str:
    """Layers as an axis numbers them."""
    return place.removeprefix("behind ").removeprefix("layers ").removeprefix("layer ").replace(EVERY_LAYER, "all")


@plot("where-training", of="where runs")
def draw_where_training(every: Sequence[PatchedModels], name: str = "where-training") -> Drawing | None:
    """A map a role and group: layers by passes, the rate with the tuned weights there alone. None without positions."""
    groups, parts = every[-1].groups, [part.split(", ", 1) for part in every[-1].parts("position")]
    if not parts or not groups:
        return None
    tokens, places = (list(dict.fromkeys(each)) for each in zip(*parts, strict=True))
    # From below: the first layers, the later ones, all of them.
    places = [*(place for place in places if place != EVERY_LAYER), EVERY_LAYER]
    with panels(1.4 + 1.5 * len(tokens), 1, 9.6) as (figure, (first,)):
        first.remove()
        grid = figure.subplots(len(tokens), len(groups), squeeze=False, sharex=True, sharey=True)
        for (line, role), (column, group) in product(enumerate(tokens), enumerate(groups)):
            axes = grid[line, column]
            rates = np.array([[found.rate(group, f"{role}, {place}") for found in every] for place in places], float)
            image = axes.imshow(rates, cmap="Blues", vmin=0, vmax=1, aspect="auto", origin="lower")
            axes.set_yticks(range(len(places)), list(map(_short, places)), fontsize=8)
            axes.set_xticks(range(len(every)), [str(found.passes) for found in every], fontsize=8)
            axes.set_title(WORDS[group] if line == 0 else "", fontsize=10)
            if column == 0:
                axes.set_ylabel(f"{role}\nlayers")
            if line == len(tokens) - 1:
                axes.set_xlabel("passes")
        bar = figure.colorbar(image, ax=grid, shrink=0.7, pad=0.01)
        bar.set_label("share of questions answered so")
        bar.outline.set_visible(False)
        rows = [{"passes": found.passes, **row} for found in every for row in found.rows("whole", "position")]
        said = " ".join(training_finding(every).values())
        return finish(figure, name, "Where in the prompt, while it trained", said or "Nothing was added.", rows)
