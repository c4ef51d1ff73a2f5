"""Bring any matrix: is it feasible, how far from the optimum is it at most, and what does it answer?"""

import numpy as np

from spillover import certify, solve
from spillover.theory import EqualClasses

pack = EqualClasses(classes=4, train=1, test=3).pack()

# A matrix has a row an answer and a column a subject, then a relation. This one remembers: 1 where a row is stated.
solution = solve(pack)
table = solution.table
memory = np.zeros((len(table.answers), len(table.subjects) + len(table.relations)))
memory[table.answer, table.subject] = 1
memory[table.answer, len(table.subjects) + table.relation] = 1
print("remembering:", certify(pack, memory).verdict)

# The solver's own matrix, certified like any other, by both norms.
for norm in ("nuclear", "frobenius"):
    print(f"the solver's, {norm}:", certify(pack, solution.weights(), norm).verdict)

# Noise on top: the certificate says what it costs.
generator = np.random.default_rng(0)
noisy = solution.weights() + 0.02 * generator.normal(size=memory.shape)
found = certify(pack, noisy)
print("with noise:", found.verdict)
for answer in found.questions[:3]:
    print(f"  {answer.subject} {answer.relation}: {answer.predicted}, margin {answer.margin:.3f}")
