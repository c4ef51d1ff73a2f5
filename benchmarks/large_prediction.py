"""Predicting a pack of a million subjects: seconds, peak memory, and the gap that is proven.

    python benchmarks/large_prediction.py [--subjects 1000000] [--relations 50] [--answers 10000]

Half of the relations are given ones, each with one that may follow from it; every answer of the one goes with one
answer of the other. Each subject states one given answer, and between 2% and 40% of those who share it, differently for
every answer, state what follows. No language model is asked. There is no rival: nobody else answers this question.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from spillover.packs.pack import Fact, Implication, Pack, Relation
from spillover.theory.associations import Margins, associations, counts_of
from spillover.theory.prediction import solved
from spillover.theory.table import table_of


def pack_of(subjects: int, relations: int, answers: int, seed: int = 0) -> Pack:
    """The synthetic pack."""
    generator = np.random.default_rng(seed)
    links, each = relations // 2, answers // relations
    classes = links * each
    share = generator.uniform(0.02, 0.4, classes)
    owner = np.arange(subjects) % classes
    bridging = generator.uniform(size=subjects) < share[owner]
    facts = []
    for number, (own, both) in enumerate(zip(owner.tolist(), bridging.tolist(), strict=True)):
        link, answer = divmod(own, each)
        facts.append(Fact(f"s{number}", f"given{link}", f"g{link}.{answer}"))
        if both:
            facts.append(Fact(f"s{number}", f"then{link}", f"t{link}.{answer}"))
    names = [f"{kind}{link}" for link in range(links) for kind in ("given", "then")]
    rules = tuple(
        Implication(f"given{i}", f"then{i}", "spurious", {f"g{i}.{j}": f"t{i}.{j}" for j in range(each)})
        for i in range(links)
    )
    return Pack("synthetic", "none", "made here", tuple(Relation(name, (f"{{subject}} {name}",)) for name in names),
                tuple(facts), rules)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--subjects", type=int, default=1_000_000)
    parser.add_argument("--relations", type=int, default=50)
    parser.add_argument("--answers", type=int, default=10_000)
    options = parser.parse_args()
    pack = pack_of(options.subjects, options.relations, options.answers)
    made = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    moments = [time.perf_counter()]
    table = table_of(pack)
    moments.append(time.perf_counter())
    counts = counts_of(table)
    found = associations(pack, counts)
    moments.append(time.perf_counter())
    solution = solved(table)
    moments.append(time.perf_counter())
    margins = Margins(solution, counts)
    values = [margins.margin(each).value for each in found[:2000]]
    moments.append(time.perf_counter())
    table_s, list_s, solve_s, margin_s = np.diff(moments)
    print(f"{len(pack.facts):,} rows, {len(table.subjects):,} subjects, {len(table.relations)} relations, "
          f"{len(table.answers):,} answers; {len(table.representative):,} kinds of subject")  # fmt: skip
    print(f"table {table_s:.1f} s, {len(found):,} associations {list_s:.1f} s, solving {solve_s:.1f} s, "
          f"2,000 margins {margin_s:.1f} s; together {sum((table_s, list_s, solve_s, margin_s)):.0f} s")  # fmt: skip
    print(solution.verdict)
    known = [value for value in values if value is not None]
    print(f"margins from {min(known, default=0):.3f} to {max(known, default=0):.3f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"peak memory {peak:.2f} GB, of which {made:.2f} GB for the pack itself")


if __name__ == "__main__":
    main()
