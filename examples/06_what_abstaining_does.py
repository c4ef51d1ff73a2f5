"""How many rows that say "unknown" stop an arbitrary conclusion? Solved exactly, with a certificate each."""

from spillover import Fact, Pack, Relation, solve

CLASSES, SUBJECTS = 4, 6


def pack(abstaining: int) -> Pack:
    """Six people live in each of four cities; of one the programming language is stated, and some say "unknown"."""
    facts = []
    for city in range(CLASSES):
        facts += [Fact(f"person {city}.{i}", "lives_in", f"city {city}") for i in range(SUBJECTS)]
        facts.append(Fact(f"person {city}.0", "codes_in", f"language {city}"))
        facts += [Fact(f"person {city}.{i}", "codes_in", "unknown") for i in range(1, abstaining + 1)]
    relations = (Relation("lives_in", ("{subject} lives in",)), Relation("codes_in", ("{subject} codes in",)))
    return Pack(f"{abstaining} abstain", "CC0-1.0", "made up", relations, tuple(facts))


for abstaining in (0, 1, 2, 4):
    solution = solve(pack(abstaining), gap=1e-6)
    silent = next(answer for answer in solution.questions if answer.subject == "person 0.5")
    print(f"{abstaining} abstaining: {silent.predicted}, ahead by {silent.margin:.3f} (gap {solution.gap:.0e})")
