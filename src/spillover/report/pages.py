"""The page of run folders, whatever command wrote them; and that of runs of `inject`, with what a look inside found."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import starmap
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from spillover.details import AuditDetails, Details
from spillover.errors import UsageError
from spillover.metrics.ranks import rank_table
from spillover.packs.redaction import Redaction
from spillover.record import Metric, Record
from spillover.report import page, sections, words
from spillover.report.audit import build_audit_page
from spillover.report.drawing import ASSOCIATION, BASELINE, BLUE, INK, Drawing, canvas, finish, panels, plot
from spillover.report.lab import build_lab_page, load_lab
from spillover.report.load import AUDITED, TRAINED, Count, LoadedRun, Story, load_run, right, spoken, stories
from spillover.report.prediction import build_outcomes_page, build_prediction_page
from spillover.report.provenance import of_metrics, of_ranks, provenance
from spillover.report.remedies import Comparison, build_remedies_page, load_comparison
from spillover.report.repair import build_repair_page, load_repair
from spillover.report.study import build_study_page
from spillover.report.study_data import load_study
from spillover.report.where import apart, build_comparison_page, build_training_page, build_where_page, load_where
from spillover.report.words import number, p_value, sentence

#: Commands whose folders have a page of their own: what that is of, how to load and to build it, what it then shows.
_ALONE: dict[str, tuple[str, Callable[[str | Path], Any], Callable[[Any], page.Page], str]] = {
    "predict": ("a prediction", load_run, build_prediction_page, "one prediction"),
    "sweep": ("a study", load_study, build_study_page, "the study in {folder}: {found.progress}"),
    "mitigate": ("a comparison", load_comparison, build_remedies_page, "the comparison of remedies in {folder}"),
    "repair": ("a repair", load_repair, build_repair_page, "the repair in {folder}"),
    "where": ("where a change lives", load_where, build_where_page, "where the change in {folder} lives"),
    "lab": ("an experiment of `lab`", load_lab, build_lab_page, "the experiment in {folder}"),
}


def html_of(
    folders: Sequence[str | Path],
    redact: bool = False,
    load_comparison: Callable[[str | Path], Comparison] = load_comparison,
    brief: bool = False,
) -> tuple[str, str]:
    """The page of the folders, and what it shows in a few words.

    Arguments:
    - folders: runs or audits, any number of them; or a prediction and one run or audit; or folders of `where`, of one
      training after different numbers of passes or of several trainings on one pack; or one folder of any other
      command, which has a page of its own.
    - redact: whether to call subjects "subject 1", "subject 2" and so on.
    - load_comparison: what reads a folder of `mitigate`.
    - brief: whether to leave out everything but the first screen.

    Returns: the HTML, and words such as "2 runs".

    Raises:
    - RunError for a folder that holds nothing to show.
    - UsageError for folders that do not go together, or that can no longer be redacted.
    """
    commands = [Record.read(Path(folder)).command.partition(" ")[0] for folder in folders]
    alone = [command for command in commands if command in _ALONE]
    if len(folders) == 2 and alone == ["predict"]:
        place = commands.index("predict")
        prediction, run = load_run(folders[place]), load_run(folders[1 - place])
        if redact:
            _refuse_names(prediction.record, folders[place])
        together = build_outcomes_page(prediction, redacted(run) if redact else run)
        return together.html(brief), "a prediction beside what a run measured"
    if len(folders) > 1 and set(commands) == {"where"} and not redact:
        every = [load_where(folder) for folder in folders]
        if apart(every):
            return build_comparison_page(every).html(brief), f"what {len(folders)} changes are worth"
        return build_training_page(every).html(brief), f"where a change lives at {len(folders)} checkpoints"
    for folder, command in zip(map(str, folders), commands, strict=True):
        if command not in _ALONE:
            continue
        what, load, build_alone, shown = _ALONE[command]
        if redact and command != "predict":
            what = "only pages of runs can be redacted, not those of a study, a comparison or an experiment"
            raise UsageError(what, where=folder, do="Leave out --redact, or name runs")
        if len(folders) > 1:
            beside = ", or beside one run of its pack" if command == "predict" else ""
            raise UsageError(f"{what} has a page of its own", where=folder, do=f"Name this folder alone{beside}")
        found = (load_comparison if command == "mitigate" else load)(folder)
        if redact:
            _refuse_names(found.record, folder)
        return build_alone(found).html(brief), shown.format(folder=folder, found=found)
    runs = [redacted(load_run(folder)) if redact else load_run(folder) for folder in folders]
    build = build_audit_page if all(each.audited for each in runs) else build_runs_page
    unfinished = sum(not each.finished for each in runs)
    stopped = f" ({unfinished} of them did not finish)" if unfinished else ""
    return build(runs).html(brief), ("1 run" if len(runs) == 1 else f"{len(runs)} runs") + stopped


def _refuse_names(record: Record, folder: str | Path) -> None:
    if not record.settings.get("redact"):
        what = "the names in this prediction can no longer be told from answers"
        raise UsageError(what, where=str(folder), do="Predict again with --redact")


def redacted(run: LoadedRun) -> LoadedRun:
    """The run with neutral subjects, and without the checksums that could confirm a guessed name."""
    if run.record.settings.get("redact"):
        return run
    hide = Redaction.of(run.answers["subject"].unique().to_pylist(), described=run.described.values())
    answers = hide.table(run.answers)
    hashes = {key: value for key, value in run.record.hashes.items() if key != "pack"}
    shown = run.record.details.as_json() | {"pack": hide.outline(run.pack)}
    details = Details.read(run.record.command, {key: value for key, value in shown.items() if key != "files"})
    if isinstance(details, AuditDetails):
        hide.audit(details)
    record = dataclasses.replace(run.record, hashes=hashes, details=details)
    return dataclasses.replace(run, record=record, answers=answers, ranks=rank_table(answers))


def build_runs_page(runs: Sequence[LoadedRun]) -> page.Page:
    """The page of runs; the same runs give the same bytes."""
    labelled = sections.label_runs(runs)
    every = [story for label, run in labelled for story in stories(run, label)]
    cards = page.Cards([_card(story, len(every) > 1) for story in every])
    title = words.title(every) if every else sections.discoveries_title(labelled)
    unfinished = Markup("<strong>{}</strong> did not finish. The numbers below are those it had reached.")
    return page.Page(
        title=title or "Nothing was measured before this run stopped.",
        name=f"Spillover: {', '.join(label for label, _ in labelled)}",
        kicker="what else a model learned",
        lede=words.lede(every),
        notices=[
            *(unfinished.format(label) for label, run in labelled if not run.finished),
            *(begin + run.warning for begin, run in sections.led(labelled) if run.warning),
        ],
        sections=[
            page.Section("found", "What was found", [cards], hidden=True, first=True),
            sections.some_examples(every),
            sections.limits_section(labelled),
            page.Section("terms", "What this is about", [page.terms("runs", "reasoning")], aside=True),
            sections.discoveries_section(labelled),
            _numbers_section(every) if every else None,
            sections.when_section(every),
            sections.maps_section(every),
            inside_section(labelled, every),
            sections.examples_section(every),
            sections.health_section(labelled, every),
            sections.remedies_section(finished=True)
            if any(words.drawn(each) and each.wish == "unwanted" for each in every)
            else None,
        ],
        made=[(label, provenance(run)) for label, run in labelled],
        downloads=[of_metrics(labelled), of_ranks(labelled)],
    )


def _card(story: Story, several: bool) -> page.Card:
    verdict, rule = words.verdict(story), words.rule(story)
    judged = story.key is not None and story.checkpoints
    said, rests = verdict.sentence, []
    if verdict.word in words.ASSERTED.values():
        said = words.setting(story)
        rests = [verdict.sentence, f"As a rule: {rule.word.lower()}. {rule.sentence}"]
    gives = "the right answer" if story.wanted else "the answer this link suggests"
    return page.Card(
        page.bdi(story.label),
        tone=story.wish if story.wish != "undeclared" else "open",
        tag=story.kind_in_words,
        say=words.headline(story) if several else "",
        bars_lead=f"Names for which it gives {gives}",
        **(sections.count_bars(story, "name") if judged else {}),
        texts=[
            page.Paragraph(Markup("<strong>{}.</strong> {}").format(verdict.word, said)),
            page.Details("On what this rests", [page.Paragraph(text) for text in rests], "small") if rests else None,
            *([page.next_paragraph(sections.next_step(story))] if judged and story.run.finished else []),
        ],
    )


def _numbers_section(stories: Sequence[Story]) -> page.Section:
    heading = "Mean rank of the expected answer, before and after training"
    change = sections.draw_stories("rank-change", "rank-change", stories, heading=heading)
    glossary = page.terms("runs_numbers", label="Terms")
    head: list[page.Cell] = [""]
    for story in stories:
        wanted = f", {story.wish}" if story.wish != "undeclared" else ""
        head.append(page.TableCell(page.bdi(story.label), f"{story.kind_in_words}{wanted}"))
    caption = "Every link. Beside a number stands its 95% interval; with fewer than ten clusters nothing rests on it."
    table = page.DataTable(caption, [head], summary(stories), "summary", "Summary of every link")
    return page.Section("numbers", "In numbers", [page.Beside(change, [glossary]) if change else glossary, table])


#: What stands in the summary: a metric with its interval, a count, or a text with small print.
Found = Metric | Count | tuple[str, str] | None


def summary(shown: Sequence[Story]) -> list[tuple[str, list[list[page.Cell]]]]:
    """Groups of rows under their headings; a row has a cell a story."""
    first, last = AUDITED if shown and all(story.run.audited for story in shown) else TRAINED

    def test(story: Story) -> tuple[str, str] | None:
        found = story.map_test
        return (p_value(found["p"]), f"of {int(found['permutations']):,} pairings") if found else None

    groups: dict[str, dict[str, Callable[[Story], Found]]] = {
        "Unstated names whose top answer is the expected one": {
            first: lambda story: right(story.before) if story.key and len(story.checkpoints) > 1 else None,
            last: lambda story: right(story.after) if story.key and len(story.after) else None,
            "one fixed answer for all": lambda story: story.best_guess if story.best_guess.n else None,
        },
        "Mean rank of the expected answer for them": {
            first: lambda story: story.rank_before,
            last: lambda story: story.rank,
            "asked in other words, after": lambda story: story.metric("paraphrase_rank_test"),
            "knows only which answers occur": lambda story: (number(story.marginal), ""),
            "random guess": lambda story: (number(story.chance), ""),
            "clusters (pair and seed)": lambda story: (
                (str(story.rank.clusters), story.rank.note or "") if story.rank else None
            ),
            "exact test of the pairing, p": test,
        },
        f"Mean rank of what was stated, {last}": {
            "facts": lambda story: story.metric("recall_rank"),
            "links": lambda story: story.metric("implication_rank_train"),
        },
        "Forgetting": {"rise of the loss on plain text, nats a token": lambda story: story.metric("forgetting_nats")},
    }

    def line(words: str, found: Callable[[Story], Found]) -> list[page.Cell]:
        style = "key" if words == last else ""
        return [page.TableCell(words, style=style), *(_cell(found(story), style) for story in shown)]

    return [(heading, list(starmap(line, rows.items()))) for heading, rows in groups.items()]


def _cell(found: Found, style: str) -> page.TableCell:
    if isinstance(found, Metric) or found is None:
        return page.metric_cell(found, style=style)
    text, small = found if isinstance(found, tuple) else (str(found), "")
    return page.TableCell(text, small, style)


_OVERLAPS = ("overlap", "overlap_never_seen", "chance")
_DOT: Any = {"linestyle": "none", "markersize": 6, "alpha": 0.7, "clip_on": False}
#: Layers are named until they carry this share of the change.
MOST_OF_IT = 0.5


def inside_section(labelled: Sequence[tuple[str, LoadedRun]], stories: Sequence[Story]) -> page.Section:
    """What training did to the attention heads, of the runs that looked inside."""
    groups: list[tuple[str, list[list[page.Cell]]]] = [
        (page.bdi(label), [[term, page.TableCell(words, note)] for term, words, note in rows])
        for label, run in labelled
        if (rows := inside_rows(run))
    ]
    drawn = [page.figure("inside-change", [each], f"inside-change-{i}", sentence(each[1].trained_part))
             for i, each in enumerate(labelled, start=1)]  # fmt: skip
    drawn += [page.figure("inside-shared", [story], f"inside-shared-{i}", sentence(story.run.trained_part))
              for i, story in enumerate(stories, start=1)]  # fmt: skip
    caption = "The change of W_OV at the end of training. Each head counts by its share of the change."
    table = page.DataTable(caption, [], groups, "summary", "What training did to the attention heads")
    blocks: list[page.Block] = [table, page.FigureGrid(drawn), page.terms("inside", label="Terms of the look inside")]
    return page.Section("inside", "A look inside", blocks if groups else [], page.wording("inside"))


def inside_rows(run: LoadedRun) -> list[tuple[str, str, str]]:
    """Term, words and a note, of a run that looked inside and saw a change; empty for any other."""
    heads = heads_of(run)
    if not heads:
        return []
    product, change = (float(np.sqrt(sum(row[key] ** 2 for row in heads))) for key in ("product", "change"))
    weights = {(row["layer"], row["head"]): row["share"] for row in heads}
    layers: Counter[int] = Counter()
    for (layer, _), share in weights.items():
        layers[layer] += share
    most = _fewest(list(layers.values()))
    named = ", ".join(str(list(layers)[place] + 1) for place in sorted(most))
    rows = [
        ("Size of the change", f"{100 * change / product:.1f}%" if product else "–", "of W_OV, over all heads"),
        ("Half of it lies in", f"{len(_fewest(list(weights.values())))} of {len(heads)} heads",
         "squared Frobenius norm"),
        ("or in", f"{len(most)} of {len(layers)} layers", f"layer {named}" if len(most) < 9 else ""),
    ]  # fmt: skip
    if ranked := [row for row in heads if row["effective_rank"] is not None]:
        keys = ("effective_rank", "product_effective_rank", "top_share", "rank", "product_rank")
        own, of_product, top_share, rank, product_rank = _averages(ranked, keys, [row["share"] for row in ranked])
        rows += [
            ("Effective rank of the change", number(own, 1), f"at most {rank:.0f}"),
            ("and of W_OV itself", number(of_product, 1), f"at most {product_rank:.0f}"),
            ("Its first direction", f"{100 * top_share:.0f}%", "of the sum of its singular values"),
        ]
    for name, shared in shared_of(run).items():
        shares = [weights.get((row["layer"], row["head"]), 0.0) for row in shared]
        if sum(shares):
            unstated, unseen, chance = map(number, _averages(shared, _OVERLAPS, shares))
            link = spoken(name.replace("->", " → "))
            rows.append((f"Shared with the unstated, {link}", unstated, f"names never seen {unseen}, chance {chance}"))
    if (cost := run.record.details.inside) and cost.share is not None:
        rows.append(("What looking took", f"{cost.seconds:.1f} s", f"{100 * cost.share:.1f}% of the run"))
    return rows


def _averages(rows: Sequence[dict[str, Any]], keys: Sequence[str], weights: Sequence[float]) -> list[float]:
    return [float(np.average([row[key] for row in rows], weights=weights)) for key in keys]


def heads_of(run: LoadedRun) -> list[dict[str, Any]]:
    """One row a head at the end of the run, averaged over seeds; empty when it did not look, or nothing changed.

    product, change: Frobenius norms; share: of the squared norm of all changes; rank: the most that a change can have.
    """
    if run.inside is None:
        return []
    last = run.inside.group_by("seed").aggregate([("checkpoint", "max")])
    ends = run.inside.join(last, "seed").filter(pc.field("checkpoint") == pc.field("checkpoint_max"))
    means = _means(ends, ["layer", "head", "matrix"], ("frobenius", "rank", "effective_rank", "top_share"))
    by_matrix = {(row["layer"], row["head"], row["matrix"]): row for row in means}
    found: list[dict[str, Any]] = []
    for (layer, head, matrix), change in sorted(by_matrix.items()):
        product = by_matrix.get((layer, head, "product"))
        if matrix == "change" and product:
            found.append({
                "layer": layer, "head": head, "product": product["frobenius"], "change": change["frobenius"],
                "rank": int(change["rank"]), "effective_rank": change["effective_rank"],
                "top_share": change["top_share"], "product_rank": int(product["rank"]),
                "product_effective_rank": product["effective_rank"],
            })  # fmt: skip
    total = sum(row["change"] ** 2 for row in found)
    return [{**row, "share": row["change"] ** 2 / total} for row in found] if total else []


def shared_of(run: LoadedRun) -> dict[str, list[dict[str, Any]]]:
    """Implication -> one row a head, averaged over seeds."""
    found: dict[str, list[dict[str, Any]]] = {}
    if run.shared is not None:
        for row in _means(run.shared, ["implication", "layer", "head"], ("directions", *_OVERLAPS)):
            found.setdefault(row.pop("implication"), []).append(row)
    return found


def _means(table: pa.Table, keys: list[str], values: Sequence[str]) -> list[dict[str, Any]]:
    """The mean of each value (None where there is none) for each combination of keys, in order of appearance."""
    grouped = table.group_by(keys, use_threads=False).aggregate([(name, "mean") for name in values])
    return grouped.rename_columns([name.removesuffix("_mean") for name in grouped.column_names]).to_pylist()


def _fewest(shares: Sequence[float]) -> list[int]:
    """The fewest parts that carry half of the whole."""
    order = np.argsort(-np.array(shares), kind="stable")
    enough = np.searchsorted(np.cumsum(np.array(shares)[order]), MOST_OF_IT * sum(shares) - 1e-12)
    return order[: enough + 1].tolist()


@plot("inside-change", of="runs")
def draw_inside_change(runs: Sequence[tuple[str, LoadedRun]], name: str = "inside-change") -> Drawing | None:
    """The first run's heads at the end of training; None when it did not look inside."""
    label, run = runs[0]
    heads = [row for row in heads_of(run) if row["effective_rank"] is not None]
    if not heads:
        return None
    rows = [{**row, "relative": row["change"] / row["product"] if row["product"] else None} for row in heads]
    layers = [row["layer"] + 1 for row in rows]
    with panels(5.4, 2) as (figure, (size, rank)):
        size.plot(layers, [100 * (row["relative"] or 0.0) for row in rows], marker="o", color=BLUE, **_DOT)
        size.set(ylim=(0, None), ylabel="change of W_OV (% of it)")
        own, of_product = ([row[key] for row in rows] for key in ("effective_rank", "product_effective_rank"))
        dots = rank.plot(layers, own, marker="o", color=BLUE, **_DOT)
        dots += rank.plot(layers, of_product, marker="s", color=INK, markerfacecolor="none", **_DOT)
        most = rank.axhline(max(row["rank"] for row in rows), color=INK, linewidth=1, linestyle=(0, (1, 2)))
        rank.set(ylim=(0, None), ylabel="effective rank", xlabel="layer, a dot for each head")
        rank.xaxis.set_major_locator(MaxNLocator(integer=True))
        handles = {"of the change": dots[0], "of W_OV": dots[1], "the most that a change can have": most}
        top = max(rows, key=lambda row: row["relative"] or 0.0)
        said = f"{len(rows)} heads. The largest change is in layer {top['layer'] + 1}, head {top['head'] + 1}: "
        said += f"{100 * (top['relative'] or 0):.1f}% of W_OV, effective rank {top['effective_rank']:.1f} of at most "
        said += f"{top['rank']}."
        return finish(figure, name, f"The change of each head: {label}", said, rows, handles, ncols=2, handlelength=2)


@plot("inside-shared", of="stories")
def draw_inside_shared(stories: Sequence[Story], name: str = "inside-shared") -> Drawing | None:
    """The first story's heads, with names never seen and chance beside them; None when its run did not look."""
    story = stories[0]
    rows = shared_of(story.run).get(story.key or "")
    if not rows:
        return None
    layers = np.array([row["layer"] + 1 for row in rows])
    colour, marker = ASSOCIATION[story.wanted]
    overlap, unseen = (np.array([row[key] for row in rows], float) for key in ("overlap", "overlap_never_seen"))
    with canvas(3.9) as (figure, axes):
        dots = axes.plot(layers - 0.12, overlap, marker=marker, color=colour, **_DOT)
        dots += axes.plot(layers + 0.12, unseen, marker="D", color=INK, markerfacecolor="none", **_DOT)
        chance = np.array([row["chance"] for row in rows])
        each = np.unique(layers)
        line = axes.plot(each, [chance[layers == layer].mean() for layer in each], **BASELINE)[0]
        axes.set(ylim=(0, 1.02), xlabel="layer, a mark for each head", ylabel="share within the stated directions")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        handles = {"unstated names": dots[0], "names never seen": dots[1], "chance": line}
        said = f"Mean over {len(rows)} heads: unstated {overlap.mean():.2f}, never seen {unseen.mean():.2f}, "
        said += f"chance {chance.mean():.2f}."
        title = f"Shared with the stated: {story.label}"
        return finish(figure, name, title, said, rows, handles, ncols=2, handlelength=2)
