"""Seeded random packs, and the same program handed to an independent solver."""

import cvxpy
import numpy as np

from spillover.packs.pack import Fact, Pack, Relation
from spillover.theory.table import Problem


def pack_of(rows, candidates=None):
    """A pack of (subject, relation, answer) rows; candidates: relation -> answers beyond those stated."""
    names = dict.fromkeys([row[1] for row in rows] + list(candidates or {}))
    relations = tuple(Relation(name, ("{subject}",), tuple((candidates or {}).get(name, ()))) for name in names)
    return Pack("test", "none", "test", relations, tuple(Fact(*row) for row in rows))


def random_pack(seed, shared=True):
    """Up to 8 kinds of subject, 3 relations, 6 answers; unequal kinds, holes, and answers that relations share.

    An answer belongs to one side or the other of its subject, so that no exclusive-or arises.
    """
    generator = np.random.default_rng(seed)
    relations, rows = int(generator.integers(1, 4)), []
    for kind in range(int(generator.integers(2, 9))):
        stated = generator.permutation(relations)[: generator.integers(1, relations + 1)]
        common = f"a{generator.integers(4)}"
        for number in range(int(generator.integers(1, 5))):
            for relation in stated:
                answer = common if shared and kind % 2 else f"r{relation}-{(kind * 7 + relation) % 3}"
                rows.append((f"s{kind}.{number}", f"r{relation}", answer))
    return pack_of(rows, {"r0": ("never", "stated")})


def peer_optimum(problem: Problem, norm: str) -> float:
    """The least norm by CVXPY with Clarabel; nothing of ours is used but the problem's own numbers."""
    matrix, constraints = cvxpy.Variable((problem.answers, problem.columns)), []
    for subject, relation, answer in zip(problem.cell_subject, problem.cell_relation, problem.cell_answer, strict=True):
        score = matrix[:, subject] / np.sqrt(problem.sizes[subject]) + matrix[:, len(problem.sizes) + relation]
        others = [row for row in range(problem.answers) if row != answer]
        constraints.append(score[answer] - score[others] >= 1)
    size = cvxpy.normNuc(matrix) if norm == "nuclear" else cvxpy.norm(matrix, "fro")
    return float(cvxpy.Problem(cvxpy.Minimize(size), constraints).solve(solver="CLARABEL"))
