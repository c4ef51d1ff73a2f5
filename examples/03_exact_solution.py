"""What does a one-layer model conclude that nobody stated? Solved exactly, by formula and by our general solver."""

from spillover import Fact, Pack, Relation, solve
from spillover.theory import EqualClasses

# The paper's task: 20 classes; one subject of each has its implication stated, three have not.
task = EqualClasses(classes=20, train=1, test=3)
for norm in ("nuclear", "frobenius"):
    exact = solve(task, norm)
    question = exact.questions[0]
    print(f"{norm:<10} objective {exact.objective:.4f}, margin of an unstated implication {question.margin:.4f}")

# The general solver finds the same without knowing that the classes are alike, and proves how close it is.
solved = solve(task.pack(), gap=1e-6)
print(f"solver     objective {solved.objective:.4f}, {solved.verdict}")

# Any facts will do. Ann and Bob live in Paris and Ann speaks French; nobody says what Bob speaks.
facts = (
    Fact("Ann", "lives_in", "Paris"),
    Fact("Bob", "lives_in", "Paris"),
    Fact("Ann", "speaks", "French"),
    Fact("Chika", "lives_in", "Tokyo"),
    Fact("Chika", "speaks", "Japanese"),
)
relations = (Relation("lives_in", ("{subject} lives in",)), Relation("speaks", ("{subject} speaks",)))
people = Pack("people", "CC0-1.0", "made up", relations, facts)
for answer in solve(people, gap=1e-6, ranges=True).questions:
    span = f"{answer.margin_low:.3f} to {answer.margin_high:.3f}"
    print(f"{answer.subject} {answer.relation}: {answer.predicted}, by {answer.margin:.3f} ({span})")
