"""The association sets of a study: one row a pack, with what each way of training it gave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spillover.measures.bootstrap import clusters_of, standard_error
from spillover.measures.map_rank import map_rank
from spillover.measures.ranking import answers_at_end, questions
from spillover.record import Metric
from spillover.report.story import Story
from spillover.report.study.load import Cell
from spillover.report.study.published import RANKS


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
        return "null" in self.label.partition(":")[2].split(",")

    @property
    def control(self) -> bool:
        """Whether nothing can be inferred from its rows: they are shuffled, or none states the implication."""
        return self.null or self.story.examples_stated == 0

    @property
    def published(self) -> tuple[float, ...]:
        """The paper's numbers for this set in the order of published.MODELS; empty for other packs."""
        return RANKS.get(self.label, ())


@dataclass(frozen=True)
class NullDistance:
    """The mean rank over shuffles, its cluster standard error, and how many of these it is above the yardstick."""

    mean: float
    error: float
    distance: float

    @property
    def close(self) -> bool:
        """Whether the yardstick is within two standard errors."""
        return abs(self.distance) <= 2


def sets_of(cells: Sequence[Cell]) -> list[AssociationSet]:
    """One row a pack in order of first appearance; a pack trained twice in the same way has two rows."""
    found: list[AssociationSet] = []
    for cell in cells:
        if cell.run is None or cell.story is None:
            continue
        arm = "frozen" if _frozen(cell) else "whole"
        label = cell.run.pack_name
        place = next((i for i, row in enumerate(found) if row.label == label and getattr(row, arm) is None), None)
        if place is None and any(row.label == label for row in found):
            label = cell.slug
        if place is None:
            found.append(AssociationSet(label, **{arm: cell.story}))
        else:
            row = found[place]
            found[place] = AssociationSet(label, row.frozen or cell.story, row.whole or cell.story)
    return found


def _frozen(cell: Cell) -> bool:
    """Whether embeddings were left as they are; an adapter leaves them too."""
    settings = cell.run.record.settings if cell.run else {}
    return bool(settings.get("freeze_embeddings") or settings.get("lora"))


def null_distance(row: AssociationSet) -> NullDistance | None:
    """How far a shuffled set lies from its yardstick, in cluster standard errors; None when that cannot be told."""
    asked = questions(row.story.after)
    error = standard_error(asked.rank, clusters_of(asked)) if len(asked) else None
    if not error or row.story.marginal is None:
        return None
    mean = float(asked.rank.mean())
    return NullDistance(mean, error, (mean - row.story.marginal) / error)


def true_ranks(sets: Sequence[AssociationSet]) -> list[tuple[AssociationSet, Metric]]:
    """For every set that teaches a false map where another set has the true one: the rank of the true answers."""
    found = []
    truths = {row.story.key: row.story.map for row in sets if row.story.wanted and not row.control}
    for row in sets:
        story = row.story
        if story.kind == "counterfactual" and not row.control and story.key in truths:
            rank = map_rank(answers_at_end(story.run.answers), str(story.key), truths[story.key])
            if rank is not None:
                found.append((row, rank))
    return found
