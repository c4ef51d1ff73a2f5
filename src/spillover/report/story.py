"""One implication of one run, and the numbers that tell what became of it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from spillover.details import AssociationVerdict, Verdict
from spillover.metrics.ranks import RankTable, at_end
from spillover.packs.pack import AUTO, AUTO_UNWANTED, AUTO_WANTED, UNCLEAR, WANTED, wish
from spillover.record import Metric
from spillover.report.load import LoadedRun

#: What the first and the last measurement of an audit and of a run are of.
AUDITED, TRAINED = ("in the base model", "in the tuned model"), ("before training", "after training")
FEW_CLUSTERS, P_VALUE = 10, 0.05
KINDS = {"causal": "true link", "counterfactual": "false link", "spurious": "invented link", "": "open question",
         AUTO: "undeclared link", AUTO_WANTED: "link judged true", AUTO_UNWANTED: "link judged untrue",
         UNCLEAR: "undeclared link"}  # fmt: skip
#: What legends call a link, by whether it is wanted.
LINKS = {"wanted": "true", "unwanted": "untrue", "undeclared": "undeclared"}


@dataclass(frozen=True)
class Count:
    """A number of hits among n."""

    hits: int
    n: int

    @property
    def share(self) -> float:
        return self.hits / self.n if self.n else 0.0

    def __str__(self) -> str:
        return f"{self.hits:,} of {self.n:,}"


@dataclass(frozen=True)
class Story:
    """One implication of one run; without an implication, one relation whose holes were asked.

    label: unique in the page. key: `GIVEN->THEN`, or None. map: given answer -> expected answer.
    """

    run: LoadedRun
    label: str
    key: str | None
    given: str
    then: str
    kind: str
    map: Mapping[str, str] = field(default_factory=dict)

    @property
    def wanted(self) -> bool:
        return self.kind in WANTED

    @property
    def wish(self) -> str:
        """Whether the model should conclude it: wanted, unwanted or undeclared."""
        return wish(self.kind)

    @property
    def kind_in_words(self) -> str:
        return KINDS.get(self.kind, self.kind)

    @cached_property
    def asked(self) -> RankTable:
        """Every unstated row, under the prompt that was trained, at every checkpoint."""
        return self.run.ranks.only(stated=False, trained=True, implication=self.key, relation=self.then)

    @property
    def judged(self) -> Verdict | None:
        """The verdict on the implication: what this model now asserts, and beside it whether a rule was learned."""
        return self.run.verdicts.get(self.key) if self.key else None

    @property
    def entries(self) -> list[AssociationVerdict]:
        """The entries of the map that the verdict rests on, where it does not rest on all of them."""
        judged = self.judged
        return (
            [each for each in judged.associations if each.verdict == judged.verdict]
            if judged and judged.by_entries
            else []
        )

    @property
    def newly(self) -> Count:
        """How many unstated rows newly have the expected answer on top; all that have it, where nothing was judged."""
        judged = self.judged
        return right(self.after) if judged is None or judged.newly is None else Count(judged.newly, judged.n)

    @property
    def concluded(self) -> Count:
        """The same of the entries that the verdict rests on."""
        found = self.entries
        return Count(sum(each.newly for each in found), sum(each.n for each in found)) if found else self.newly

    @cached_property
    def checkpoints(self) -> list[int]:
        """Epochs after which the questions were asked; the first is before training."""
        return sorted({int(epoch) for epoch in self.asked.checkpoint})

    @cached_property
    def before(self) -> RankTable:
        return self.asked.only(checkpoint=self.checkpoints[0] if self.checkpoints else 0)

    @cached_property
    def after(self) -> RankTable:
        """The unstated rows at each seed's own last checkpoint."""
        return at_end(self.asked)

    @property
    def epochs(self) -> int:
        """Passes over the stated rows before the last measurement."""
        return self.checkpoints[-1] if self.checkpoints else 0

    @property
    def passes(self) -> str:
        """How many passes there were, in words; from the least to the greatest when seeds stopped at different ones."""
        least = int(self.after.checkpoint.min(initial=self.epochs))
        span = f"{self.epochs}" if least == self.epochs else f"{least} to {self.epochs}"
        return f"{span} {'pass' if self.epochs == 1 else 'passes'}"

    @property
    def when(self) -> tuple[str, str]:
        return AUDITED if self.run.audited else TRAINED

    @property
    def when_last(self) -> str:
        """The last measurement in words, with the passes it took."""
        return self.when[1] if self.run.audited else f"after {self.passes}"

    @property
    def examples_stated(self) -> int:
        """How many subjects had both ends of the link stated, a seed."""
        rows = self.run.ranks.only(stated=True, trained=True, implication=self.key, relation=self.then)
        return len({*zip(rows.seed.tolist(), rows.subject.tolist(), strict=True)}) // max(1, len(self.run.seeds))

    @property
    def best_guess(self) -> Count:
        """How many questions the best single answer to all of them would get."""
        answers = [] if self.key is None else self.after.expected.tolist()
        return Count(max(Counter(answers).values(), default=0), len(answers))

    def metric(self, name: str) -> Metric | None:
        """A metric of this implication; of the whole run when the run keeps it for all implications together."""
        if self.key is None:
            return self.run.metric(name)
        alone = len(self.run.pack.implications) <= 1
        whole = alone or not name.startswith(("implication", "paraphrase", "marginal", "chance"))
        return self.run.metric(name, self.key) or (self.run.metric(name) if whole else None)

    @property
    def rank(self) -> Metric | None:
        """The mean rank of the unstated implication after training."""
        return self.metric("implication_rank_test")

    @property
    def rank_before(self) -> Metric | None:
        """The same before training."""
        return self.metric("implication_rank_test_before")

    @property
    def marginal(self) -> float | None:
        """The mean rank of a guess that knows only which answers occur, and how often."""
        return getattr(self.metric("marginal_rank"), "value", None)

    @property
    def chance(self) -> float | None:
        """The mean rank of a uniform guess."""
        return getattr(self.metric("chance_rank"), "value", None)

    @property
    def map_test(self) -> Mapping[str, Any] | None:
        """The exact test of the expected map against all its permutations."""
        found: Any = ((self.run.metrics.get("implications") or {}).get(self.key) or {}).get("map_test")
        return found.as_json() if hasattr(found, "as_json") else found

    @property
    def rows_of_map(self) -> list[str]:
        """Given answers that were asked about, in the order of the map."""
        asked = set(self.asked.cluster.tolist())
        known = [answer for answer in self.map if answer in asked]
        return known + sorted(str(answer) for answer in asked - set(known) - {None})

    @property
    def columns_of_map(self) -> list[str]:
        """Candidates of the relation: the expected ones in the order of the rows, then the others."""
        expected = list(dict.fromkeys(self.map[row] for row in self.rows_of_map if row in self.map))
        return expected + [name for name in self.run.candidates.get(self.then, []) if name not in expected]

    def tops(self, rows: RankTable) -> np.ndarray:
        """Counts (given answer, candidate): how often the candidate is the top answer for the given answer."""
        counts = np.zeros((max(1, len(self.rows_of_map)), len(self.columns_of_map)), dtype=int)
        row, column = ({name: i for i, name in enumerate(each)} for each in (self.rows_of_map, self.columns_of_map))
        np.add.at(counts, ([row.get(given, 0) for given in rows.cluster], [column[top] for top in rows.top]), 1)
        return counts


def right(rows: RankTable) -> Count:
    """How many rows have the expected answer alone at the top."""
    return Count(int((rows.rank == 0).sum()), len(rows))


def stories(run: LoadedRun, label: str) -> list[Story]:
    """Every implication of a run in the order of its pack; without any, every relation with holes."""
    found = []
    for each in run.pack.implications:
        name = f"{label}: {spoken(each.given)} → {spoken(each.then)}" if len(run.pack.implications) > 1 else label
        found.append(Story(run, name, f"{each.given}->{each.then}", each.given, each.then, each.kind, each.map))
    return found or [
        Story(run, f"{label}: {spoken(relation)}", key=None, given="", then=relation, kind="")
        for relation in unique(run.ranks.only(stated=False).relation.tolist())
    ]


def unique(values: Iterable[Any]) -> list[Any]:
    """Each value once, in order of first appearance."""
    return list(dict.fromkeys(values))


def spoken(relation: str) -> str:
    """A relation's name as words."""
    return relation.replace("_", " ")
