"""A study's sets, and the paper's table: a line for each of ours and the paper's, as figure, table and sentences."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.artist import Artist

from spillover.metrics.implications import map_rank
from spillover.metrics.intervals import clusters_of, standard_error
from spillover.metrics.ranks import answers_at_end, questions
from spillover.metrics.remedies import ALIVE
from spillover.record import Metric
from spillover.report.drawing import (
    ASSOCIATION,
    BASELINE,
    INK,
    LINES,
    Drawing,
    Line,
    Look,
    canvas,
    draw_lines,
    finish,
    label,
    plot,
)
from spillover.report.load import Story, spoken, unique
from spillover.report.page import Cell, DataTable, Row, TableCell, metric_cell, table_of, wording
from spillover.report.study_curves import scientific
from spillover.report.study_data import TRUTHS, LoadedCell, numbers_of, side_of
from spillover.report.words import interval, number, p_value, value

SETS, PAPER, NEWLY = "study-sets", "paper-table", "newly-by-set"
#: The state of one of the paper's models in a study of other models.
THEIRS = "the paper"
#: The paper's models, and what each is called here: by its tag and its hub id.
MODELS = {
    "Gemma-2-9B": ("gemma-2-9b", "google/gemma-2-9b"),
    "OLMo-7B": ("olmo-7b", "allenai/OLMo-7B-0424-hf"),
    "Qwen-2-7B": ("qwen2-7b", "Qwen/Qwen2-7B"),
    "Mistral-7B-v0.3": ("mistral-7b-v0.3", "mistralai/Mistral-7B-v0.3"),
    "Llama-3-8B": ("llama-3-8b", "meta-llama/Meta-Llama-3-8B"),
}
#: Pack -> mean rank on unstated implications after training, a number a model in the order of MODELS; 0 is best.
RANKS: dict[str, tuple[float, ...]] = {
    "city-language": (0.00, 0.07, 0.13, 0.00, 0.00),
    "city-language-counterfactual": (0.19, 1.33, 4.55, 2.10, 1.18),
    "country-code": (0.19, 0.15, 3.63, 1.48, 0.77),
    "profession-color": (1.64, 1.84, 0.82, 1.15, 0.93),
    "sport-music": (0.56, 0.17, 0.40, 1.28, 0.63),
}
_MARKS = dict(zip(MODELS, ("x", "+", "^", "v", "*"), strict=True))
_RANK = "mean rank of the unstated implication (0 is best)"
#: Ways of training a set: attribute of AssociationSet -> words.
_ARMS = {"frozen": "embeddings frozen", "whole": "all weights trained"}


def _judged(story: Story | None, cell: Callable[[Metric | None], Cell]) -> dict[str, Cell]:
    """What a mean rank is judged by, by column; cell: how the metrics of stated rows are shown."""
    marginal, test, rank = (story.marginal, story.map_test, story.rank) if story else (None, None, None)
    names = ("recall_rank", "implication_rank_train", "forgetting_nats")
    facts, implications, forgetting = (story.metric(name) if story else None for name in names)
    newly = story.judged if story else None
    return {
        "newly concluded": TableCell(str(story.newly), newly.verdict) if story and newly else "–",
        "baseline": number(marginal),
        "exact map test, p": "–" if test is None else p_value(test["p"]),
        "stated facts": cell(facts),
        "stated implications": cell(implications),
        "forgetting, nats a token": metric_cell(forgetting),
        "clusters": "–" if rank is None else TableCell(str(rank.clusters), "few" if rank.note else ""),
    }


@dataclass(frozen=True)
class AssociationSet:
    """One pack. frozen: trained with embeddings left as they are; whole: with all weights. One may be missing."""

    label: str
    frozen: Story | None = None
    whole: Story | None = None

    @property
    def story(self) -> Story:
        """The one to speak of first: with frozen embeddings, if it was run."""
        found = self.frozen or self.whole
        assert found is not None
        return found

    @property
    def null(self) -> bool:
        """Whether its implication rows were shuffled, so that there is nothing to infer."""
        name, _, options = self.story.run.pack_name.partition(":")
        return "null" in (name, *options.split(","))

    @property
    def control(self) -> bool:
        """Whether nothing can be inferred from its rows: they are shuffled, or none states the implication."""
        return self.null or self.story.examples_stated == 0

    @property
    def kind(self) -> str:
        """What kind of implication it is, in words."""
        return "nothing to infer" if self.null else "facts only" if self.control else self.story.kind_in_words

    @property
    def published(self) -> tuple[float, ...]:
        """The paper's numbers for this set in the order of MODELS; empty for other packs."""
        return RANKS.get(self.label, ())


def sets_of(cells: Sequence[LoadedCell]) -> list[AssociationSet]:
    """One row a pack in order of first appearance; a pack trained twice in the same way has two rows."""
    found: dict[str, dict[str, Story]] = {}
    for cell in cells:
        if cell.run is not None and cell.story is not None:
            settings, name = cell.run.record.settings, cell.run.pack_name
            # An adapter leaves the embeddings as they are, too.
            arm = "frozen" if settings.get("freeze_embeddings") or settings.get("lora") else "whole"
            found.setdefault(cell.slug if arm in found.get(name, {}) else name, {})[arm] = cell.story
    return [AssociationSet(name, **arms) for name, arms in found.items()]


def null_distance(row: AssociationSet) -> tuple[float, float, float] | None:
    """Mean rank over shuffles, its cluster standard error, and how many of these it is above the baseline, if any."""
    asked = questions(row.story.after)
    error = standard_error(asked.rank, clusters_of(asked)) if len(asked) else None
    if not error or row.story.marginal is None:
        return None
    mean = float(asked.rank.mean())
    return mean, error, (mean - row.story.marginal) / error


def true_ranks(sets: Sequence[AssociationSet]) -> list[tuple[AssociationSet, Metric]]:
    """For every set that teaches a false map where another set has the true one: the rank of the true answers."""
    judged = [row for row in sets if not row.control]
    truths = {row.story.key: row.story.map for row in judged if row.story.wanted}
    found = []
    for row in judged:
        story = row.story
        if story.kind == "counterfactual" and story.key in truths:
            rank = map_rank(answers_at_end(story.run.answers), str(story.key), truths[story.key])
            found += [(row, rank)] if rank is not None else []
    return found


def set_notes(sets: Sequence[AssociationSet]) -> list[str]:
    """Which of a false map and the truth a model answers by, and how near shuffled sets come to their baseline."""
    notes = []
    for row, rank in true_ranks(sets):
        taught = row.story.rank
        nearer = "the true" if taught and (rank.value or 0.0) < (taught.value or 0.0) else "the taught"
        notes.append(
            f"{row.label}: the taught answers have a mean rank of {value(taught)} ({interval(taught)}), the true "
            f"ones, which no training row states, {number(rank.value)} ({interval(rank)}): {nearer} answers stand "
            "higher."
        )
    for row in sets:
        if row.null and (found := null_distance(row)) is not None:
            seeds, (mean, error, distance) = len(row.story.run.seeds), found
            notes.append(
                f"{row.label}: over {seeds} {'shuffle' if seeds == 1 else 'shuffles'} the mean rank is "
                f"{number(mean)} ± {number(error)} (cluster standard error), {number(distance, 1)} standard errors "
                f"from {number(row.story.marginal)}: {'within' if abs(distance) <= 2 else 'not within'} two of them."
            )
    return notes


def show_sets(cells: Sequence[LoadedCell]) -> tuple[DataTable | None, list[str]]:
    """One row a set: before, after in both ways of training, what it is judged by, and the paper's five models."""
    sets = sets_of(cells)
    if not sets:
        return None, []
    arms = {f"after, {words}": arm for arm, words in _ARMS.items() if arm == "frozen" or any(row.whole for row in sets)}
    rows: list[Row] = []
    for row in sets:
        after = {text: metric_cell(getattr(getattr(row, arm), "rank", None)) for text, arm in arms.items()}
        ours = {"before": metric_cell(row.story.rank_before), **after, **_judged(row.story, value)}
        rows.append((row.label, row.kind, {**ours, **dict(zip(MODELS, map(number, row.published), strict=False))}))
    models = sorted({str(row.story.run.record.settings.get("model")) for row in sets})
    above, notes = [(f"here: {', '.join(models)}", len(ours))], set_notes(sets)
    if any(row.published for row in sets):
        above.append(("the paper, all weights trained", len(MODELS)))
        notes += [wording("paper_source"), wording("paper_differs")]
    return table_of("sets_caption", "set", rows, above), notes


@plot(SETS, of="cells")
def draw_study_sets(cells: Sequence[LoadedCell], name: str = SETS) -> Drawing | None:
    """Per set a line each way of training: before (hollow), after with its interval; one for the paper's models."""
    sets, lines, said = sets_of(cells), list[Line](), []
    rows, papers = list[dict[str, Any]](), dict[str, Look]()
    before = _mark("o", INK, markerfacecolor="none")
    handles: dict[str, Look] = {"before training": before}
    for row in sets:
        lines.append(Line(f"{label(row.label)} ({row.kind})"))
        found = []
        for arm, words in _ARMS.items():
            story: Story | None = getattr(row, arm)
            if story is None:
                continue
            after = handles[f"after, {TRUTHS[story.wanted]}"] = _mark("o", ASSOCIATION[story.wanted][0])
            lines.append(Line(words, [(story.rank_before, before), (story.rank, after)], story.marginal))
            head = {"set": row.label, "model": story.run.model, "trained": words}
            for when, metric in (("before", story.rank_before), ("after", story.rank)):
                if metric is not None:
                    rows.append({**head, "when": when, **numbers_of(metric), "baseline": story.marginal})
            found += [f"{value(story.rank)} {words}"] if story.rank else []
        if row.published:
            small = [_mark(marker, INK, markersize=6, markerfacecolor="none", alpha=0.75) for marker in _MARKS.values()]
            papers = {f"paper: {model}": mark for model, mark in zip(MODELS, small, strict=True)}
            lines.append(Line("the paper", list(zip(row.published, small, strict=True)), row.story.marginal))
            head = {"set": row.label, "trained": _ARMS["whole"], "when": "after"}
            theirs = zip(MODELS, row.published, strict=True)
            rows += [{**head, "model": f"{model} (the paper)", "mean_rank": rank} for model, rank in theirs]
            found.append(f"the paper's models {min(row.published):.2f} to {max(row.published):.2f}")
        said.append(f"{row.label}: {', '.join(found)}")
    title = "Mean rank of the unstated implication by set"
    return draw_lines(lines, name, title, f"{'; '.join(said)}.", rows, handles | papers, _RANK)


@dataclass(frozen=True)
class PaperRow:
    """One model on one set. story: ours, if any; state: why there is none; published: the paper's mean rank, if any."""

    model: str
    pack: str
    story: Story | None
    state: str
    published: float | None

    @property
    def rank(self) -> Metric | None:
        """Ours: mean rank of the unstated implication after training."""
        return self.story.rank if self.story else None


def name_of(model: str) -> str:
    """What the paper calls a model that is named by its tag or hub id; other models keep their own name."""
    return next((name for name, called in MODELS.items() if model in called), model)


def paper_rows(cells: Sequence[LoadedCell]) -> list[PaperRow]:
    """Every model and set of the paper in its order, then those of the study that it has not; one row a cell."""
    found: dict[tuple[str, str], list[LoadedCell]] = {}
    for cell in cells:
        found.setdefault((name_of(cell.setting("model")), cell.setting("pack")), []).append(cell)
    published = {(name, pack): rank for pack, ranks in RANKS.items() for name, rank in zip(MODELS, ranks, strict=True)}
    # A study of other models runs none of the paper's: they stand beside them.
    alone = "not run" if any(model in MODELS for model, _ in found) or not found else THEIRS
    rows = []
    for model in unique([*MODELS, *(model for model, _ in found)]):
        for pack in unique([*RANKS, *(pack for _, pack in found)]):
            theirs = published.get((model, pack))
            if (model, pack) not in found and theirs is not None:
                rows.append(PaperRow(model, pack, None, alone, theirs))
            for cell in found.get((model, pack), ()):
                state = {"done": "" if cell.story else "nothing was asked", "failed": "failed"}
                rows.append(PaperRow(model, pack, cell.story, state.get(cell.status, "not run"), theirs))
    return rows


def beside(rows: Sequence[PaperRow]) -> list[str]:
    """How far ours and the paper's agree, in sentences computed from both."""
    sides = [side_of(row.rank, row.published) for row in rows]
    found, both = [], sum(side is not None for side in sides)
    if both:
        found.append(f"Of {both} numbers that both have, {sides.count(0)} of the paper’s lie within our interval.")
    for wanted, words in ((-1, "below"), (1, "above")):
        apart = [
            f"{row.model} on {row.pack} ({value(row.rank)} here, {number(row.published)} there)"
            for row, side in zip(rows, sides, strict=True)
            if side == wanted
        ]
        found += [f"The paper’s lie {words} our interval for {', '.join(apart)}."] if apart else []
    missing = sum(row.published is not None and row.rank is None and row.state != THEIRS for row in rows)
    if missing:
        found.append(f"{missing} of the paper’s {sum(map(len, RANKS.values()))} numbers have none of ours beside them.")
    return found


def show_paper(cells: Sequence[LoadedCell]) -> tuple[DataTable | None, list[str]]:
    """One row a model and set: ours before and after, the paper's, and what ours rests on."""
    rows, found = paper_rows(cells), []
    for row in rows:
        seeds = len(row.story.run.seeds) if row.story else 3
        rate = row.story.run.record.settings.get("lr") if row.story else None
        small = row.story.kind_in_words if row.story else ""
        small += "" if seeds == 3 else f", {seeds} {'seed' if seeds == 1 else 'seeds'}"
        line: dict[str, Cell] = {
            "before": metric_cell(row.story.rank_before if row.story else None),
            "here, after": "–" if row.state == THEIRS else row.state or metric_cell(row.rank),
            "the paper, after": number(row.published),
            **_judged(row.story, metric_cell),
            "rate": "–" if rate is None else scientific(float(rate)),
        }
        found.append((f"{row.model}, {row.pack}", small, line))
    notes = [*beside(rows), wording("paper_source"), wording("paper_unknown")]
    return table_of("paper_caption", "model and set", found), notes


@plot(PAPER, of="cells")
def draw_paper_table(cells: Sequence[LoadedCell], name: str = PAPER) -> Drawing | None:
    """Set by set one line a model: a circle with its 95% interval for ours, a cross for the paper's."""
    found, cross = paper_rows(cells), _mark("x", INK)
    lines, handles = list[Line](), dict[str, Look]()
    for pack in unique(row.pack for row in found):
        lines.append(Line(label(pack, 34)))
        for row in [row for row in found if row.pack == pack]:
            wanted = row.story is not None and row.story.wanted
            circle = _mark("o", ASSOCIATION[wanted][0])
            text = f"{label(row.model, 24)} ({row.state})" if row.state else label(row.model, 34)
            baseline = row.story.marginal if row.story else None
            lines.append(Line(text, [(row.rank, circle), (row.published, cross)], baseline))
            handles |= {f"here, {TRUTHS[wanted]}": circle} if row.story else {}
    handles["the paper"] = cross
    rows, said = [], []
    for row in found:
        head = {"model": row.model, "set": row.pack, "state": row.state or "done"}
        rows.append({**head, **numbers_of(row.rank), "paper": row.published})
        ours = f"{value(row.rank)} here" if row.rank else row.state
        there = "" if row.published is None else f", {row.published:.2f} in the paper"
        ours, there = ("", there[2:]) if row.state == THEIRS else (ours, there)
        said.append(f"{row.model} on {row.pack}: {ours}{there}")
    title = "Mean rank by model and set, here and in the paper"
    return draw_lines(lines, name, title, f"{'; '.join(said)}.", rows, handles, _RANK)


@plot(NEWLY, of="cells")
def draw_newly_by_set(cells: Sequence[LoadedCell], name: str = NEWLY) -> Drawing | None:
    """Per set the share of unstated subjects that newly give the implied answer, a mark a model; hollow where it is
    wrecked, which forgot more than ALIVE."""
    judged = [(cell, story) for cell in cells if (story := cell.story) and story.judged and story.newly.n]
    if not judged:
        return None
    packs, models = (unique(cell.setting(option) for cell, _ in judged) for option in ("pack", "model"))
    rows, legend, said = list[dict[str, Any]](), dict[str, Artist](), []
    with canvas(0.62 * len(packs) + 1.9, 7.5) as (figure, axes):
        for cell, story in judged:
            judgement, forgetting = story.judged, story.metric("forgetting_nats")
            assert judgement is not None
            pack, model, count = cell.setting("pack"), cell.setting("model"), story.newly
            wrecked = forgetting is not None and forgetting.value is not None and forgetting.value > ALIVE
            colour, _, marker = LINES[models.index(model) % len(LINES)]
            place = packs.index(pack) + (models.index(model) - (len(models) - 1) / 2) * 0.2
            ends = [judgement.newly_low or 0.0, judgement.newly_high or 0.0]
            axes.plot(ends, [place, place], color=colour, alpha=0.35, linewidth=3)
            look: Any = {"color": colour, "marker": marker, "linestyle": "none", "markersize": 8}
            face = "none" if wrecked else colour
            words = f"{model}, wrecked" if wrecked else model
            (legend[words],) = axes.plot([count.share], [place], **look, markerfacecolor=face, markeredgewidth=1.4)
            guess = story.best_guess.share
            span = [packs.index(pack) - 0.4, packs.index(pack) + 0.4]
            (legend["a guess among the answers that occur"],) = axes.plot([guess, guess], span, **BASELINE)
            numbers = {"newly": count.share, "low": ends[0], "high": ends[1], "n": count.n, "guess": guess}
            lost = forgetting.value if forgetting else None
            rows.append({"set": pack, "kind": story.kind_in_words, "model": model, **numbers, "forgetting": lost})
            said.append(f"{words} on {pack}: {count.share:.2f}")
        words_of = {cell.setting("pack"): f"{spoken(story.given)} → {spoken(story.then)}, "
                    f"{AssociationSet(cell.setting('pack'), story).kind}" for cell, story in judged}  # fmt: skip
        axes.set_yticks(range(len(packs)), [f"{label(words_of[pack], 46)}\n({label(pack)})" for pack in packs])
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.set_xlabel("share of unstated subjects that newly\ngive the implied answer")
        order = sorted(legend, key=lambda words: (words not in models, words))
        title = "What models newly conclude, by set"
        return finish(
            figure, name, title, f"{'; '.join(said)}.", rows, {words: legend[words] for words in order}, ncols=2
        )


def _mark(marker: str, colour: str, **more: Any) -> Look:
    return {"marker": marker, "color": colour, **more}
