"""Our general solver against CVXPY's SCS and Clarabel at equal certified accuracy, and its time against n.

Every solver gets the same signature-compressed nuclear program; no closed form is used. A peer is run at looser to
tighter tolerances and charged only for the first run whose answer our certificate puts within the gap; of that, only
the time inside the solver, not CVXPY's compilation. Ours is charged for everything, certificate included.

    python benchmarks/solver.py                          # n = 20 and 40, the ratios
    python benchmarks/solver.py --sizes 20 --repeats 1   # a quick look
    python benchmarks/solver.py --curve 10,20,40,80,200  # our time against n
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import cvxpy
import numpy as np
from scipy import sparse

from spillover.facts.pack import Fact, Pack, Relation
from spillover.theory.certificate import certificate, lower_bound
from spillover.theory.closed_form import EqualClasses
from spillover.theory.norms import NORMS
from spillover.theory.solvers.maximum_margin import minimise
from spillover.theory.solvers.splitting import design
from spillover.theory.table import Problem, table_of

NUCLEAR = NORMS["nuclear"]
LADDERS = {"SCS": ("eps", (1e-3, 1e-4, 1e-5, 1e-6)), "CLARABEL": ("tol", (1e-3, 1e-4, 1e-5, 1e-6))}
MOST_SECONDS = 300


def symmetric(n: int, seed: int) -> Pack:
    """The symbolic task as any other pack; the seed varies how many subjects a class has."""
    return EqualClasses(n, 1 + seed % 2, 3 + seed).pack()


def random_pack(n: int, seed: int) -> Pack:
    """n answers a relation and 2n kinds of subject: one or two relations stated, at random, by 1 to 5 subjects each."""
    generator = np.random.default_rng(seed)
    facts = []
    for kind in range(2 * n):
        relations = generator.permutation(2)[: generator.integers(1, 3)]
        answers = generator.integers(n, size=2)
        for number in range(generator.integers(1, 6)):
            facts += [Fact(f"s{kind}.{number}", f"r{r}", f"r{r}-{answers[r]}") for r in relations]
    relations = tuple(Relation(f"r{r}", ("{subject}",), tuple(f"r{r}-{a}" for a in range(n))) for r in (0, 1))
    return Pack(f"random-{n}-{seed}", "none", "drawn", relations, tuple(facts))


KINDS: dict[str, Callable[[int, int], Pack]] = {"symmetric": symmetric, "random": random_pack}


def ours(problem: Problem, gap: float) -> tuple[float, float]:
    """Seconds and certified gap of our solver."""
    began = time.perf_counter()
    found = minimise(problem, NUCLEAR, gap)
    assert found.matrix is not None
    proof = certificate(problem, NUCLEAR, found.matrix, lower_bound(problem, NUCLEAR, found.multipliers))
    return time.perf_counter() - began, proof.gap


def peer(problem: Problem, solver: str, gap: float) -> tuple[float, float]:
    """Seconds inside the solver and certified gap of the first tolerance that reaches it; infinite when none does."""
    matrix = cvxpy.Variable((problem.answers, problem.columns))
    right = sparse.csr_matrix(
        (np.ones(problem.cells), (problem.cell_answer, np.arange(problem.cells))),
        shape=(problem.answers, problem.cells),
    )
    scores = matrix @ design(problem).T
    stated = cvxpy.reshape(cvxpy.sum(cvxpy.multiply(right.toarray(), scores), axis=0), (1, problem.cells), order="C")
    constraint = np.ones((problem.answers, 1)) @ stated - scores + right.toarray() >= 1
    program = cvxpy.Problem(cvxpy.Minimize(cvxpy.normNuc(matrix)), [constraint])
    name, ladder = LADDERS[solver]
    for tolerance in ladder:
        options = {name: tolerance} if name == "eps" else {f"tol_{kind}": tolerance for kind in GAPS}
        limit = (
            {"time_limit_secs": MOST_SECONDS, "max_iters": 10**6} if solver == "SCS" else {"time_limit": MOST_SECONDS}
        )
        program.solve(solver=solver, **options, **limit)
        proof = certificate(
            problem, NUCLEAR, matrix.value, lower_bound(problem, NUCLEAR, np.asarray(constraint.dual_value).T)
        )
        if proof.feasible and proof.gap <= gap:
            return float(program.solver_stats.solve_time), proof.gap
    return float("inf"), 1.0


GAPS = ("gap_abs", "gap_rel", "feas")


def compare(sizes: list[int], repeats: int, gap: float) -> None:
    """Print, for each size and kind, both times and their ratio: the median and range over the repeats."""
    print(
        f"{'n':>4} {'pack':<10} {'peer':<9} {'ours s':>8} {'peer s':>8} {'ratio':>7}  range of ratios, gaps certified"
    )
    for n in sizes:
        for kind, make in KINDS.items():
            for solver in LADDERS:
                runs = []
                for seed in range(repeats):
                    problem = table_of(make(n, seed)).problem
                    own, own_gap = min(ours(problem, gap) for _ in range(3))
                    assert own_gap <= gap, f"ours certified {own_gap} only"
                    runs.append((own, own_gap, *peer(problem, solver, gap)))
                ratios = [run[2] / run[0] for run in runs]
                middle = [statistics.median(run[i] for run in runs) for i in (0, 2)]
                gaps = f"{max(run[1] for run in runs):.1e} {max(run[3] for run in runs):.1e}"
                print(
                    f"{n:>4} {kind:<10} {solver:<9} {middle[0]:>8.3f} {middle[1]:>8.2f} {statistics.median(ratios):>7.1f}"
                    f"  {min(ratios):.1f} to {max(ratios):.1f}, {gaps}",
                    flush=True,
                )


def curve(sizes: list[int], gap: float) -> None:
    """Print our time, iterations and certified gap against n."""
    print(f"{'n':>4} {'pack':<10} {'matrix':>10} {'seconds':>8} {'iterations':>10} {'gap':>8}")
    for n in sizes:
        for kind, make in KINDS.items():
            problem = table_of(make(n, 0)).problem
            began = time.perf_counter()
            found = minimise(problem, NUCLEAR, gap)
            seconds = time.perf_counter() - began
            shape = f"{problem.answers} x {problem.columns}"
            reached = found.gap(NUCLEAR)
            print(f"{n:>4} {kind:<10} {shape:>10} {seconds:>8.2f} {found.iterations:>10} {reached:>8.1e}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="20,40", help="sizes to compare at; empty for none")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--curve", default="", help="sizes to time ours alone at")
    parser.add_argument("--gap", type=float, default=1e-4)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.sizes:
        compare([int(n) for n in options.sizes.split(",")], options.repeats, options.gap)
    if options.curve:
        curve([int(n) for n in options.curve.split(",")], options.gap)


if __name__ == "__main__":
    main()
