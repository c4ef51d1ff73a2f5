"""What a remedy changed: what is still concluded, what was kept, what was learned, and whether it is safe.

And what was measured of each remedy in the kept studies (`measured`), on which every advice rests.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float, Int, Shaped

from spillover.details import FrontierEntry, Measured
from spillover.metrics import implications
from spillover.metrics.intervals import cluster_sums, clusters_of, mean_of, note_of, ratio_interval
from spillover.metrics.ranks import RankTable, answers_at_end, questions, rank_table
from spillover.packs.edits import ABSTENTION, WAY, WAYS
from spillover.packs.pack import Pack
from spillover.record import Metric

Codes = Int[np.ndarray, "row"]
#: Random pairings of top answers with subjects, behind the null interval.
DRAWS = 2000


def replaced_map(table: RankTable) -> dict[str, float | int] | None:
    """Whether the top answers to one implication's questions follow another map than the expected one.

    For each run (seed) and given answer, the most frequent top answer on one half of the subjects, expected answers
    left out, is compared with the other half, and the other way round. None when a given answer has fewer than two
    subjects. `rate`: share of subjects whose top answer is what the map of the other half implies. `low`, `high`: 95%
    of it when top answers are shuffled. `n`: subjects scored. `taken`: another map is there, for the rate is above.
    """
    groups, runs = _codes(clusters_of(table)), _codes(table.seed)
    if not len(table) or np.bincount(groups).min() < 2:
        return None
    top, expected = np.split(_codes(np.concatenate([table.top, table.expected])), 2)
    generator = np.random.default_rng(0)
    half = np.empty(len(groups), dtype=np.int64)
    for group in range(groups.max() + 1):
        members = generator.permutation(np.flatnonzero(groups == group))
        half[members] = np.arange(len(members)) % 2
    null = []
    for _ in range(DRAWS):
        shuffled = top.copy()
        for run in range(runs.max() + 1):
            members = np.flatnonzero(runs == run)
            shuffled[members] = top[generator.permutation(members)]
        null.append(_replaced_map_share(shuffled, expected, groups, half))
    rate, (low, high) = _replaced_map_share(top, expected, groups, half), np.quantile(null, [0.025, 0.975]).tolist()
    return {"rate": rate, "low": low, "high": high, "n": len(table), "taken": rate > high}


def _codes(values: Shaped[np.ndarray, "row"]) -> Codes:
    return np.unique(values, return_inverse=True)[1]


def _replaced_map_share(top: Codes, expected: Codes, groups: Codes, half: Codes) -> float:
    """The share of rows that the map from the other half predicts."""
    votes = np.zeros((2, groups.max() + 1, max(top.max(), expected.max()) + 1))
    np.add.at(votes, (1 - half, groups, top), 1)
    votes[:, groups, expected] = -1
    # A map says nothing where the other half gave nothing but the expected answer.
    best = np.where(votes.max(axis=2) > 0, votes.argmax(axis=2), -1)
    return float((top == best[half, groups]).mean())


#: Figures of runs that are metrics with an interval.
RANKS_AND_RATES = ("recall_rank", "implication_rank_train", "unwanted_rate", "wanted_rate", "unwanted_rank",
                   "wanted_rank")  # fmt: skip
#: The rates of subjects held out of a remedy, and of all in the last wording, which was held out, too.
HELD_OUT = ("unwanted_rate_held_out", "wanted_rate_held_out", "unwanted_rate_last_wording", "wanted_rate_last_wording")
#: The ways in which a conclusion is asked again, as figures name them -> in words, after "when asked". OTHER_WORDS: on
#: prompts that were never trained on.
OTHER_WORDS = "other_words"
AGAIN = {OTHER_WORDS: "in other words", **WAYS}
AGAIN_RATES = tuple(f"{kind}_rate_{way}" for way in WAYS for kind in ("unwanted", "wanted"))
AGAIN_REMOVED = tuple(f"removed_{way}" for way in AGAIN)
#: Those, and the others that the frontier of a comparison has.
METRICS = (*RANKS_AND_RATES, "paraphrase_unwanted_rate", "abstained_rate", "removed", "wanted_change",
           "forgetting_nats", "excess_nats", *HELD_OUT, *AGAIN_RATES, *AGAIN_REMOVED)  # fmt: skip
#: Learning is matched when the stated answers lose at most this many nats a row more than without a remedy.
MATCHED_NATS = 0.05


@dataclass(frozen=True)
class RemedyResult:
    """Runs of one remedy at one strength, all seeds together.

    metrics: by name. A rate is the share of unstated subjects whose top answer is what the unwanted or the wanted
    implications say; the abstention answer is among the candidates. `paraphrase_unwanted_rate` is on prompts never
    trained on, `abstained_rate` the share of unwanted questions answered by abstention. free_rate: the unwanted rate
    if the same top answers had nothing to do with the given ones. nats: mean loss of the stated answers, nats a row.
    again: the unwanted questions as they were asked in each other way.
    """

    metrics: dict[str, Metric | None]
    free_rate: float | None
    nats: float
    learned: bool
    replaced: dict[str, float | int] | None
    unwanted: RankTable
    wanted: RankTable
    again: Mapping[str, RankTable] = field(default_factory=dict)


def remedy_result(
    answers: pa.Table, pack: Pack, out: Mapping[int, Collection[str]] | None = None, again: pa.Table | None = None
) -> RemedyResult:
    """Measure the last checkpoint of each seed.

    Arguments:
    - answers: record.ANSWER_SCHEMA, of one or several seeds.
    - out: seed -> the subjects that were held out of a remedy; adds the rates of those alone, and of all in the last
      wording.
    - again: answers to the same questions in other ways (record.ASKED_AGAIN); adds the rates of each.
    """
    kinds = {"unwanted": [each.name for each in pack.implications if each.unwanted],
             "wanted": [each.name for each in pack.implications if each.wanted]}  # fmt: skip

    def of_kind(rows: RankTable, kind: str) -> RankTable:
        return rows.where(np.isin(rows.implication, kinds[kind]))

    last = answers_at_end(answers)
    table = rank_table(last)
    asked, reworded = questions(table), questions(table, trained=False)
    against, kept, other = of_kind(asked, "unwanted"), of_kind(asked, "wanted"), of_kind(reworded, "unwanted")
    metrics = {
        "recall_rank": implications.recall_rank(table),
        "implication_rank_train": implications.implication_rank_train(table),
        "unwanted_rate": _rate(against),
        "wanted_rate": _rate(kept),
        "unwanted_rank": implications.implication_rank_test(against),
        "wanted_rank": implications.implication_rank_test(kept),
        "paraphrase_unwanted_rate": _rate(other),
        "abstained_rate": mean_of(against, against.top == ABSTENTION, "share"),
        "excess_nats": implications.excess_nats(table),
    }
    if out is not None:
        last_wordings = [each.prompts[-1] for each in pack.relations if len(each.prompts) > 1]
        last_wording = reworded.where(np.isin(reworded.prompt, last_wordings))
        for kind, rows in (("unwanted", against), ("wanted", kept)):
            held = [who in out[seed] for seed, who in zip(rows.seed.tolist(), rows.subject, strict=True)]
            metrics[f"{kind}_rate_held_out"] = _rate(rows.where(np.array(held, dtype=bool)))
            metrics[f"{kind}_rate_last_wording"] = _rate(of_kind(last_wording, kind))
    ways = {OTHER_WORDS: other}
    if again is not None:
        for way in WAYS:
            rows = questions(rank_table(again.filter(pc.equal(again[WAY], way))), trained=False)
            ways[way] = of_kind(rows, "unwanted")
            metrics |= {f"{kind}_rate_{way}": _rate(of_kind(rows, kind)) for kind in kinds}
    free_rate = float(free_rates(against).mean()) if len(against) else None
    nats, learned = implications.stated_nats(last), implications.learned(table)
    return RemedyResult(metrics, free_rate, nats, learned, replaced_map(against), against, kept, ways)


def _rate(table: RankTable) -> Metric | None:
    return mean_of(table, table.rank == 0, "share")


def free_rates(table: RankTable) -> Float[np.ndarray, "row"]:
    """For each question, the share of its run's questions whose top answer is the one expected here."""
    found = np.zeros(len(table))
    for run in np.unique(table.seed):
        own = table.seed == run
        found[own] = [(table.top[own] == expected).mean() for expected in table.expected[own]]
    return found


def effect(untreated: RemedyResult, treated: RemedyResult) -> dict[str, Metric | None]:
    """Compare runs of the same seeds on the same questions; an interval draws (seed, pair) clusters of both alike.

    Returns `removed`, the share of the unwanted that a remedy took away, from the untreated rate (0) to the
    association-free rate (1); the same in each other way of asking, as `removed_WAY`; and `wanted_change`, the wanted
    rate minus the untreated one. A share is None where the untreated runs leave nothing to remove.
    """
    first, other = untreated.wanted, _aligned(untreated.wanted, treated.wanted)
    change = None if other is None else mean_of(first, (other.rank == 0).astype(float) - (first.rank == 0), "share")
    again = {f"removed_{way}": _removed(rows, treated.again[way]) for way, rows in untreated.again.items()
             if way in treated.again}  # fmt: skip
    return {"removed": _removed(untreated.unwanted, treated.unwanted), "wanted_change": change, **again}


def _aligned(first: RankTable, second: RankTable) -> RankTable | None:
    """The rows of `second` in the order of `first`, or None when they are not about the same questions."""
    keys = [list(zip(t.seed, t.implication, t.subject, t.prompt, strict=True)) for t in (first, second)]
    place = {key: index for index, key in enumerate(keys[1])}
    if not keys[0] or set(keys[0]) != set(keys[1]):
        return None
    return second.where(np.array([place[key] for key in keys[0]]))


def _removed(first: RankTable, second: RankTable) -> Metric | None:
    """None when there is nothing to remove (`nothing_to_remove`)."""
    other = _aligned(first, second)
    if other is None:
        return None
    columns = (first.rank == 0, other.rank == 0, free_rates(first))
    before, after, free = (float(column.mean()) for column in columns)
    if nothing_to_remove(_rate(first), free):
        return None
    sums = cluster_sums(clusters_of(first), *columns)

    def share(sums: np.ndarray) -> np.ndarray:
        return np.where(sums[0] > sums[2], (sums[0] - sums[1]) / (sums[0] - sums[2]), np.nan)

    low, high = ratio_interval(sums, share)
    value, number = (before - after) / (before - free), sums.shape[1]
    return Metric(value, low, high, len(first), number, "share", note_of(number))


#: What is said in place of a share that a remedy removed; and by how much a rate must be able to lie above a guess for
#: more subjects to be worth their while.
NOTHING, REACH = "nothing to remove", 0.25


def nothing_to_remove(unwanted: Metric | None, free: float | None) -> bool:
    """Whether an untreated model concludes the unwanted no more than a guess would: the interval of its rate reaches
    down to `free`, the rate of the same answers without any association."""
    if unwanted is None or unwanted.value is None or free is None:
        return False
    return min(unwanted.value, unwanted.value if unwanted.low is None else unwanted.low) <= free


def leaves_nothing(untreated: FrontierEntry) -> bool:
    """The same of a comparison's untreated run, of which an older record may hold a share all the same."""
    removed, rate = untreated.metric("removed"), untreated.metric("unwanted_rate")
    return removed is None or removed.value is None or nothing_to_remove(rate, untreated.free_rate)


def nothing_said(untreated: FrontierEntry) -> str:
    """Why there is nothing to remove, in words."""
    rate, free = untreated.metric("unwanted_rate"), untreated.free_rate
    if rate is None or rate.value is None or free is None:
        return f"{NOTHING}: untreated, the model concludes no more of the unwanted than chance"
    ends = "" if rate.low is None or rate.high is None else f" ({100 * rate.low:.0f} to {100 * rate.high:.0f}%)"
    said = f"{NOTHING}: untreated, {round(rate.value * rate.n):,} of {rate.n:,} unstated subjects{ends} get an unwanted"
    said += f" answer, and a guess gives {100 * free:.0f}%"
    if rate.high is not None and rate.high - free >= REACH:
        said += f"; up to {100 * rate.high:.0f}% is possible, so more subjects or seeds may show a conclusion"
    return said


#: A remedy is safe when it removes at least this share of the unwanted, and the wanted falls by no more than this.
REMOVED, KEPT = 0.9, 0.05
#: What became of a remedy; only one that LEARNED may be advised. FAILED is followed by the reason.
LEARNED, UNLEARNED, REWRITES, FAILED = "learned", "failed to learn", "changes stated rows", "failed"


def keeps_wanted(wanted_change: float | None) -> bool:
    """Whether the wanted rate falls by at most KEPT, up to rounding; without wanted questions it cannot fall."""
    return wanted_change is None or wanted_change >= -KEPT - 1e-9


def is_safe(
    status: str, removed: float | None, wanted_change: float | None, taken: bool, still: Collection[str] = ()
) -> bool:
    """Whether a remedy learned what was stated, removes enough, keeps the wanted, and lets no other answer in.

    removed: share of the unwanted that it took away. taken: whether another answer has taken the implied one's place.
    still: the ways of asking in which the conclusion is still there.
    """
    enough = removed is not None and removed >= REMOVED - 1e-9
    return status == LEARNED and enough and keeps_wanted(wanted_change) and not taken and not still


#: What a repair is weighed by, in words, and from how much on a rise (or a fall of a share) of it is a cost.
WEIGHED = {"recall_rank": "rank of stated facts", "implication_rank_train": "rank of stated links",
           "wanted_rate": "wanted conclusions", "forgetting_nats": "loss on plain text, nats a token"}  # fmt: skip
COSTS = {"recall_rank": implications.LEARNED, "implication_rank_train": implications.LEARNED, "wanted_rate": -KEPT,
         "forgetting_nats": 0.05}  # fmt: skip
#: The share of the unwanted from which on its removal may be worth a cost; and nats a token of forgetting above which a
#: model counts as wrecked.
WORTH, ALIVE = 0.5, 0.5


def still_there(measured: Measured) -> list[str]:
    """The ways of asking again in which a remedy leaves most of the unwanted conclusion: it removes less than WORTH of
    what the untreated model concludes there. Where that is no more than a guess, nothing is said."""
    shares = {way: measured.metric(f"removed_{way}") for way in AGAIN}
    return [way for way, each in shares.items() if each and each.value is not None and each.value < WORTH - 1e-9]


def asked_again_said(measured: Measured) -> str:
    """What became of the unwanted conclusion when it was asked again, in words; empty where nothing tells.

    A remedy that removes it where it is asked plainly, and not in another way, only moved it.
    """
    found = {way: each.value for way in AGAIN if (each := measured.metric(f"removed_{way}"))}
    shares = {way: value for way, value in found.items() if value is not None}
    plain, still = measured.metric("removed"), still_there(measured)
    if not shares or plain is None or plain.value is None:
        return ""
    there = _listed([f"{AGAIN[way]} ({_share(shares[way])} removed)" for way in still])
    if plain.value < WORTH - 1e-9:
        return f"not removed when asked plainly ({_share(plain.value)}), nor {there}" if there else ""
    if still:
        return f"removed when asked plainly ({_share(plain.value)}), still there when asked {there}"
    ways = _listed([f"{AGAIN[way]} ({_share(share)})" for way, share in shares.items()])
    return f"removed when asked plainly ({_share(plain.value)}), and when asked {ways}"


def _share(value: float) -> str:
    return f"{100 * max(0.0, min(1.0, value)):.0f}%"


def _listed(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))


@dataclass(frozen=True)
class Weighed:
    """What a repair gained against what it cost. costs: the figures that got worse. said: both in a sentence.
    short: the same without figures of the costs."""

    worth: bool
    costs: Sequence[str]
    said: str
    short: str


def weighed(before: Measured, after: Measured, removed: Metric | None, nothing: bool = False) -> Weighed:
    """Weigh a repair. removed: the share of the unwanted above chance that it took away, or None without any. nothing:
    whether there was nothing to remove (`nothing_to_remove`).

    It is worth it when that is WORTH or more, what was stated is still known, plain text is not wrecked, and the
    wanted rate fell by less than the unwanted one.
    """
    moved: dict[str, tuple[float, float]] = {}
    for name in ("unwanted_rate", *COSTS):
        values = [metric.value for side in (before, after) if (metric := side.metric(name))]
        known = [value for value in values if value is not None]
        moved[name] = (known[0], known[1]) if len(known) == 2 else (0.0, 0.0)
    rise = {name: now - was for name, (was, now) in moved.items()}
    costs = [name for name, least in COSTS.items() if rise[name] / least > 1 + 1e-9]
    unknown = {"recall_rank", "implication_rank_train"} & set(costs)
    wrecked = "forgetting_nats" in costs and moved["forgetting_nats"][0] <= ALIVE < moved["forgetting_nats"][1]
    asked = metric.n if (metric := before.metric("unwanted_rate")) else 0
    was, now = (round(rate * asked) for rate in moved["unwanted_rate"])
    share = removed.value if removed and removed.value is not None else (was - now) / was if was else 0.0
    kept = not unknown and not wrecked and rise["wanted_rate"] > rise["unwanted_rate"]
    worth = share >= WORTH and not nothing and kept
    gain = gone = "nothing unwanted was concluded before"
    if was:
        gone = f"{max(0, was - now):,} of {was:,} unwanted conclusions {'is' if was - now == 1 else 'are'} gone"
        above = f", {share:.0%} of what is above chance" if removed else f", {NOTHING} above chance" * nothing
        gain = f"{gone} ({was:,} to {now:,} of {asked:,} asked{above})"
    lost = ", ".join(f"{WEIGHED[name]} {moved[name][0]:.2f} -> {moved[name][1]:.2f}" for name in costs)
    gone = f"{NOTHING}, before it was what a guess gives" if nothing and was else gone
    word = ("worth it, at a cost" if costs else "worth it") if worth else "not worth it"
    said = f"{word}: {gain}; {f'worse are {lost}' if costs else 'nothing measured got worse'}."
    worse = ", ".join(WEIGHED[name].removesuffix(", nats a token") for name in costs)
    return Weighed(worth, costs, said, f"{word}: {gone}; {f'worse are {worse}' if costs else 'nothing got worse'}.")


def out_of_reach() -> list[str]:
    """The remedies by themselves that were tried, and never within reach of a kept comparison's frontier, by name."""
    return sorted(names_in(label)[0] for label, each in measured().items() if not each.reached and "+" not in label)


#: Seeds from which on a measurement is repeated, so that advice may rest on it.
REPEATED = 3


@dataclass(frozen=True)
class Trial:
    """One kept comparison of a remedy with the untreated run of the same pack; each figure before and after.

    study: its folder in the repository. wanted: None for a pack that wants nothing. stated: mean rank of the stated
    facts and of the stated implications, the greater one. safe: see `is_safe`. nothing: see `leaves_nothing`.
    """

    study: str
    model: str
    pack: str
    seeds: int
    status: str
    unwanted: tuple[float, float]
    wanted: tuple[float, float] | None
    stated: tuple[float, float]
    forgetting: tuple[float, float]
    safe: bool
    nothing: bool = False

    @property
    def gain(self) -> float:
        """By how much the unwanted rate fell, less the fall of the wanted one."""
        before, after = self.wanted or (0.0, 0.0)
        return self.unwanted[0] - self.unwanted[1] - max(0.0, before - after)

    @property
    def on(self) -> str:
        """The pack's name without its options."""
        return self.pack.partition(":")[0]

    @property
    def figures(self) -> str:
        """What was measured, in words."""
        rates = {"unwanted": self.unwanted, "wanted": self.wanted, "forgotten nats": self.forgetting}
        said = [f"{name} {pair[0]:.2f} -> {pair[1]:.2f}" for name, pair in rates.items() if pair]
        return ", ".join([f"{said[0]} ({NOTHING})" if self.nothing else said[0], *said[1:]])


@dataclass(frozen=True)
class MeasuredRemedy:
    """A remedy at the strength that was tried most, and every pack it was tried on.

    label: as `--remedy` takes it. does: in a sentence. after: whether it needs a finished model only. control: whether
    it is the control of a remedy, and none itself. reached: whether it was ever within reach of a comparison's best
    (tools/make_results.py); of one that is joined, always.
    """

    label: str
    does: str
    after: bool
    trials: Sequence[Trial]
    control: bool = False
    reached: bool = True

    @property
    def gain(self) -> float:
        """The mean of its trials."""
        return sum(trial.gain for trial in self.trials) / len(self.trials)

    @property
    def repeated(self) -> bool:
        """Whether it was measured with seeds enough, and learned what was stated, in every trial."""
        return all(trial.seeds >= REPEATED and trial.status == LEARNED for trial in self.trials)

    @property
    def alive(self) -> bool:
        """Whether training without it left every model that it was tried on alive."""
        return all(trial.forgetting[0] <= ALIVE for trial in self.trials)

    @property
    def cited(self) -> str:
        """The remedy, what was measured of it, and where."""
        return f"{self.label}: {self.found}"

    @property
    def found(self) -> str:
        """What was measured, and where."""
        several = len(self.trials) > 1
        figures = [f"{trial.figures}{f' on {trial.on}' if several else ''}" for trial in self.trials]
        names = [trial.study for trial in self.trials] + [trial.model for trial in self.trials]
        seeds = min(trial.seeds for trial in self.trials)
        where = [*dict.fromkeys(names), "1 seed" if seeds == 1 else f"{seeds} seeds"]
        return f"{'; '.join(figures)} ({', '.join(where)})"


@cache
def measured() -> dict[str, MeasuredRemedy]:
    """Every remedy of the kept studies by its label, the one that gained most first."""
    text = resources.files("spillover.metrics").joinpath("advice.json").read_text(encoding="utf-8")
    found = [MeasuredRemedy(**{**each, "trials": [_trial(trial) for trial in each["trials"]]})
             for each in json.loads(text)]  # fmt: skip
    return {each.label: each for each in sorted(found, key=lambda each: (-each.gain, each.label))}


def _trial(fields: dict[str, Any]) -> Trial:
    paired: dict[str, Any] = {name: tuple(pair) for name, pair in fields.items() if isinstance(pair, list)}
    return Trial(**fields | paired)


#: How many remedies are named to somebody who can train again.
NAMED = 3


def advised(after: bool) -> list[MeasuredRemedy]:
    """Remedies to name, best first: those that were repeated, learned what was stated and gained something.

    Where some were tried on living models alone, those; what helps a wrecked model may do nothing for another.
    after: the best for a finished model, instead of those that act on training.
    """
    every = [each for each in measured().values() if each.after == after and not each.control]
    some = [each for each in every if each.repeated and each.gain > 0]
    return ([each for each in some if each.alive] or some)[: 1 if after else NAMED]


def names_in(label: str) -> list[str]:
    """The names of the remedies that are joined in a label, whatever their strengths."""
    return [part.partition("=")[0].strip() for part in label.split("+")]


def to_try() -> list[str]:
    """The labels of those to try first where time is short: the best for a finished model, which need no training of
    their own, and then the best that act on training."""
    return [each.label for each in (*advised(after=True), *advised(after=False))][:NAMED]


def measured_of(name: str) -> MeasuredRemedy:
    """What was measured of one remedy by itself, whatever its strength. Raises KeyError for one never measured."""
    return {label.partition("=")[0]: each for label, each in measured().items() if "+" not in label}[name]


def caveat() -> str:
    """How far what was measured carries: whether any of it was safe, and whether those models were alive."""
    every = [each.trials for each in measured().values() if each.repeated]
    safe = sum(all(trial.safe for trial in trials) for trials in every)
    wrecked = [nats for trials in every if (nats := [own for t in trials if (own := t.forgetting[0]) > ALIVE])]
    text = f"{safe or 'None'} of the {len(every)} that were repeated {'was' if safe < 2 else 'were'} safe "
    text += f"(removes {REMOVED:.0%} of the unwanted, lowers the wanted rate by {KEPT:.2f} at most)"
    if wrecked:
        models = "each of these models" if len(wrecked) == len(every) else f"the models of {len(wrecked)} of them"
        nats = [own for each in wrecked for own in each]
        text += f", and training without a remedy had wrecked {models} ({min(nats):.1f} to {max(nats):.1f} "
        text += "nats a token forgotten)"
    return f"{text}: measure on your own facts before you choose."
