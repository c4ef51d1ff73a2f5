"""Our general solver against CVXPY's SCS and Clarabel at equal certified accuracy, and its time against n.

Every solver gets the same signature-compressed nuclear program; no closed form is used. A peer is run at looser to
tighter tolerances and charged only for the first run whose answer our certificate puts within the gap, and not for
CVXPY's compilation. Ours is charged for everything, certificate included. Seconds are of processor time, so that other
work on the machine does not count; set OMP_NUM_THREADS=1 for one thread each.

    python benchmarks/solver.py                          # n = 20 and 40, the ratios
    python benchmarks/solver.py --sizes 20 --repeats 1   # a quick look
    python benchmarks/solver.py --sizes 20 --uncompressed   # the peer gets a column a subject, as it would by itself
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

from spillover.packs.pack import Fact, Pack, Relation
from spillover.theory.certificate import certificate, lower_bound
from spillover.theory.norms import NORMS
from spillover.theory.splitting import minimise
from spillover.theory.symbolic import EqualClasses
from spillover.theory.table import Problem, table_of

NUCLEAR = NORMS["nuclear"]
TOLERANCES = (1e-3, 1e-4, 1e-5, 1e-6)
OPTIONS = {"SCS": ("eps",), "CLARABEL": ("tol_gap_abs", "tol_gap_rel", "tol_feas")}
LIMITS = {"SCS": {"time_limit_secs": 600, "max_iters": 10**6}, "CLARABEL": {"time_limit": 600}}


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
    began = time.process_time()
    found = minimise(problem, NUCLEAR, gap)
    assert found.matrix is not None
    proof = certificate(problem, NUCLEAR, found.matrix, lower_bound(problem, NUCLEAR, found.multipliers))
    return time.process_time() - began, proof.gap


def program_of(problem: Problem) -> tuple[cvxpy.Problem, cvxpy.Variable, cvxpy.Constraint]:
    """The compressed nuclear program, as CVXPY is best given it: one matrix inequality."""
    matrix = cvxpy.Variable((problem.answers, problem.columns))
    place = (problem.cell_answer, np.arange(problem.cells))
    right = sparse.csr_matrix((np.ones(problem.cells), place), shape=(problem.answers, problem.cells)).toarray()
    scores = matrix @ problem.design.T
    stated = cvxpy.reshape(cvxpy.sum(cvxpy.multiply(right, scores), axis=0), (1, problem.cells), order="C")
    constraint = np.ones((problem.answers, 1)) @ stated - scores + right >= 1
    return cvxpy.Problem(cvxpy.Minimize(cvxpy.normNuc(matrix)), [constraint]), matrix, constraint


def peer(problem: Problem, solver: str, gap: float) -> tuple[float, float]:
    """Seconds and certified gap of the first tolerance that reaches it; infinite when none does."""
    program, matrix, constraint = program_of(problem)
    program.get_problem_data(solver)  # compiles, and keeps the result for the calls below
    for tolerance in TOLERANCES:
        began = time.process_time()
        options = {**dict.fromkeys(OPTIONS[solver], tolerance), **LIMITS[solver]}
        program.solve(solver=solver, warm_start=False, **options)
        seconds = time.process_time() - began
        proof = certificate(
            problem, NUCLEAR, matrix.value, lower_bound(problem, NUCLEAR, np.asarray(constraint.dual_value).T)
        )
        if proof.feasible and proof.gap <= gap:
            return seconds, proof.gap
    return float("inf"), 1.0


def compare(sizes: list[int], repeats: int, gap: float, peers: list[str], uncompressed: bool) -> None:
    """Print, for each size and kind, both times and their ratio: the median and range over the repeats."""
    print(f"{'n':>4} {'pack':<10} {'peer':<9} {'ours s':>8} {'peer s':>8} {'ratio':>7}  range, gaps certified")
    for n in sizes:
        for kind, make in KINDS.items():
            for solver in peers:
                runs = []
                for seed in range(repeats):
                    table = table_of(make(n, seed))
                    problem = table.problem
                    own, own_gap = min(ours(problem, gap) for _ in range(3))
                    assert own_gap <= gap, f"ours certified {own_gap} only"
                    runs.append((own, own_gap, *peer(table.full_problem if uncompressed else problem, solver, gap)))
                ratios = [run[2] / run[0] for run in runs]
                own, other = (statistics.median(run[i] for run in runs) for i in (0, 2))
                ratio, least, most = statistics.median(ratios), min(ratios), max(ratios)
                gaps = f"{max(run[1] for run in runs):.1e} {max(run[3] for run in runs):.1e}"
                print(
                    f"{n:>4} {kind:<10} {solver:<9} {own:>8.3f} {other:>8.2f} {ratio:>7.1f}"
                    f"  {least:.1f} to {most:.1f}, {gaps}",
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
    parser.add_argument("--peers", default="SCS,CLARABEL")
    parser.add_argument("--curve", default="", help="sizes to time ours alone at")
    parser.add_argument("--gap", type=float, default=1e-4)
    parser.add_argument("--uncompressed", action="store_true", help="give the peer a column a subject")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.sizes:
        sizes, peers = [int(n) for n in options.sizes.split(",")], options.peers.split(",")
        compare(sizes, options.repeats, options.gap, peers, options.uncompressed)
    if options.curve:
        curve([int(n) for n in options.curve.split(",")], options.gap)


if __name__ == "__main__":
    main()
