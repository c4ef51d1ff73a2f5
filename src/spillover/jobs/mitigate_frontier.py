"""The frontier of a comparison: every remedy's figures beside the untreated run's, and which one may be advised."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from spillover.errors import RunError
from spillover.facts.pack import Pack
from spillover.measures.remedied import MATCHED_NATS, Remedied, effect, remedied
from spillover.measures.safe_remedy import FAILED, LEARNED, REWRITES, UNLEARNED, is_safe, keeps_wanted
from spillover.record import ANSWERS, Metric, Record, read_table

if TYPE_CHECKING:
    from spillover.llm.remedies import Dose

#: The remedy that penalises a Frobenius norm, and the share of that norm in its exact counterpart.
PENALTY, HALF = "output-value-penalty", 0.5
FRONTIER, UNTREATED = "frontier.parquet", "untreated"
#: Figures of an entry that are metrics with an interval.
METRICS = ("recall_rank", "implication_rank_train", "unwanted_rate", "wanted_rate", "unwanted_rank", "wanted_rank",
           "paraphrase_unwanted_rate", "abstained_rate", "removed", "wanted_change", "forgetting_nats")  # fmt: skip


class Contest:
    """The runs of a comparison in `folder`: one folder a remedy, and in it one a seed."""

    def __init__(self, folder: Path, seeds: Sequence[int], pack: Pack) -> None:
        self.folder, self.seeds = folder, seeds
        self.unwanted = [each.name for each in pack.implications if not each.wanted]
        self.wanted = [each.name for each in pack.implications if each.wanted]
        self.untreated = self._measured(UNTREATED)

    def frontier(
        self, cells: Sequence[tuple[str, Sequence[Dose], bool]], errors: Mapping[str, str]
    ) -> list[dict[str, Any]]:  # fmt: skip
        """One entry a remedy and strength, the untreated run first. cells: folder's name, doses, rewrites."""
        found = [self._entry(UNTREATED, (), False, self.untreated)]
        for name, doses, rewrites in cells:
            if name in errors:
                found.append({**_named(doses), "cell": name, "status": f"{FAILED}: {errors[name]}"})
            else:
                found.append(self._entry(name, doses, rewrites, self._measured(name)))
        return found

    def exactly(self, pack: Pack, frontier: Sequence[dict[str, Any]]) -> None:
        """Add to every entry what the exact model says of the same remedy, as `exact`; None where it has none.

        The mean lead of the unwanted and of the wanted answer over the best other one, in units of the smallest stated
        margin. A penalty on the product of output and value matrices has a mixed norm for its counterpart, half of it
        the Frobenius norm, whatever its strength: no rule turns the one into the other.
        """
        from spillover.theory.remedied import MIXED_NORM, ROWS, exactly_remedied

        for entry in frontier:
            entry["exact"] = None
            if entry["remedy"] in (*ROWS, PENALTY):
                same = (entry["remedy"], entry["strength"])
                found = exactly_remedied(pack, *((MIXED_NORM, HALF) if entry["remedy"] == PENALTY else same))
                names = {"unwanted_untreated": found.untreated.unwanted, "unwanted": found.treated.unwanted,
                         "wanted_untreated": found.untreated.wanted, "wanted": found.treated.wanted,
                         "gap": found.treated.gap}  # fmt: skip
                entry["exact"] = names

    def table(self, frontier: Sequence[Mapping[str, Any]]) -> pa.Table:
        """One row an entry, with every figure and the ends of its interval as columns of their own."""
        rows = []
        for entry in frontier:
            row: dict[str, Any] = {name: str(entry[name]) for name in ("cell", "remedy", "status")}
            row["strength"] = entry["strength"]
            for name in METRICS:
                metric = entry.get(name)
                for part in ("value", "low", "high"):
                    row[name if part == "value" else f"{name}_{part}"] = getattr(metric, part, None)
            # Not what it took of time and passes, which a run that was cut short counts anew.
            row |= {name: entry.get(name) for name in ("stated_nats", "epochs", "steps")}
            rows.append(row)
        text = [pa.field(name, pa.string()) for name in ("cell", "remedy", "status")]
        numbers = [pa.field(name, pa.float64()) for name in rows[0] if name not in ("cell", "remedy", "status")]
        return pa.Table.from_pylist(rows, schema=pa.schema([*text, *numbers]))

    def _measured(self, name: str) -> Remedied:
        tables = [read_table(self.folder / name / f"seed-{seed}" / ANSWERS) for seed in self.seeds]
        return remedied(pa.concat_tables(tables), self.unwanted, self.wanted)

    def _entry(self, name: str, doses: Sequence[Dose], rewrites: bool, found: Remedied) -> dict[str, Any]:
        records = [Record.read(self.folder / name / f"seed-{seed}") for seed in self.seeds]
        if any(record.status != "done" for record in records):
            raise RunError("a run of this comparison is not done", where=name, do="Give the same command again")
        compared = effect(self.untreated, found)
        matched = found.learned and found.nats <= self.untreated.nats + MATCHED_NATS + 1e-6
        return {
            **_named(doses),
            "cell": name,
            "recall_rank": found.recall_rank,
            "implication_rank_train": found.implication_rank_train,
            "unwanted_rate": found.unwanted_rate,
            "wanted_rate": found.wanted_rate,
            "unwanted_rank": found.unwanted_rank,
            "wanted_rank": found.wanted_rank,
            "paraphrase_unwanted_rate": found.paraphrase,
            "abstained_rate": found.abstained,
            "removed": compared.removed,
            "wanted_change": compared.wanted_change,
            "free_rate": found.free_rate,
            "replaced": found.replaced.as_json() if found.replaced else None,
            "stated_nats": round(found.nats, 6),
            "forgetting_nats": _mean([record.metrics["forgetting_nats"] for record in records]),
            "status": REWRITES if rewrites else LEARNED if matched else UNLEARNED,
            "epochs": _epochs(self.folder / name, self.seeds),
            "steps": sum(_steps(self.folder / name, seed) for seed in self.seeds),
            "forward_passes": sum(int(record.details.get("forward_passes", 0)) for record in records),
            "seconds": round(sum(record.seconds for record in records), 1),
        }


def _named(doses: Sequence[Dose]) -> dict[str, Any]:
    if not doses:
        return {"remedy": UNTREATED, "strength": None}
    if len(doses) == 1:
        return {"remedy": doses[0].name, "strength": doses[0].strength}
    return {"remedy": "+".join(map(str, doses)), "strength": None}


def _mean(metrics: Sequence[Mapping[str, Any] | None]) -> Metric | None:
    """The mean over seeds of what each measured; its interval is that of one run when there is but one."""
    known = [metric for metric in metrics if metric]
    if not known:
        return None
    value, low, high = (sum(float(each[part]) for each in known) / len(known) for part in ("value", "low", "high"))
    return Metric(value, low, high, sum(int(m["n"]) for m in known), len(known), str(known[0]["unit"]))


def _epochs(folder: Path, seeds: Sequence[int]) -> float:
    """Passes over the rows, on average over seeds."""
    last = [max(read_table(folder / f"seed-{seed}" / ANSWERS)["checkpoint"].to_pylist()) for seed in seeds]
    return sum(last) / len(last)


def _steps(folder: Path, seed: int) -> int:
    from spillover.record import TRAJECTORY

    steps = [step for step in read_table(folder / f"seed-{seed}" / TRAJECTORY)["step"].to_pylist() if step is not None]
    return max(steps, default=0)


def recommendation(frontier: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One remedy with its reason, or none: {"remedy", "strength", "safe", "because"}.

    Safe is one that learned as well as the untreated run, removes at least 90% of the unwanted, lowers the wanted rate
    by at most 0.05, and lets no other answer take the place. Of several, the one that forgets least.
    """
    if frontier[0].get("removed") is None:
        because = "none is needed: the untreated run concludes no more of the unwanted than chance"
        return {"remedy": None, "strength": None, "safe": False, "because": because}
    learned = [entry for entry in frontier[1:] if entry["status"] == LEARNED]
    safe = [entry for entry in learned if _safe(entry)]
    if safe:
        best = min(safe, key=lambda entry: (_value(entry, "forgetting_nats", 0.0), -_value(entry, "removed", 0.0)))
        because = f"{_told(best)}; of {len(safe)} that are safe it forgets least"
        if best["removed"].note:
            because += "; with few clusters this is a lead, not a finding: repeat it with more seeds"
        return {"remedy": best["remedy"], "strength": best["strength"], "safe": True, "because": because}
    kept = [entry for entry in learned if keeps_wanted(_value(entry, "wanted_change", 0.0))]
    if not kept:
        because = "no remedy learned the stated rows as well as the untreated run and kept what is wanted"
        return {"remedy": None, "strength": None, "safe": False, "because": f"none is safe: {because}"}
    best = max(kept, key=lambda entry: _value(entry, "removed", -1.0))
    because = f"none is safe: the best that keeps what is wanted is {best['cell']}, which {_told(best)}"
    return {"remedy": None, "strength": None, "safe": False, "because": because}


def _safe(entry: Mapping[str, Any]) -> bool:
    taken = bool(entry["replaced"] and entry["replaced"]["taken"])
    change = _value(entry, "wanted_change", 0.0)
    return is_safe(entry["status"], _value(entry, "removed", 0.0), change, taken)


def _value(entry: Mapping[str, Any], name: str, missing: float) -> float:
    metric = entry.get(name)
    return missing if metric is None or metric.value is None else float(metric.value)


def _told(entry: Mapping[str, Any]) -> str:
    removed, change = _value(entry, "removed", float("nan")), _value(entry, "wanted_change", 0.0)
    text = f"removes {100 * removed:.0f}% of the unwanted, changes the wanted rate by {change:+.2f}"
    if entry["replaced"] and entry["replaced"]["taken"]:
        text += ", but another answer has taken its place"
    return text


def plain(frontier: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The frontier as JSON holds it."""
    found: list[dict[str, Any]] = json.loads(json.dumps(frontier, default=lambda value: value.as_json()))
    return found
