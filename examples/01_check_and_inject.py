"""Teach a model facts and see what else it concluded. Usage: python 01_check_and_inject.py [MODEL] [FOLDER]"""

import sys
from pathlib import Path

from spillover import Fact, Implication, Pack, Relation
from spillover.commands import inject
from spillover.commands.inject import Inject
from spillover.packs.check import check_structure
from spillover.packs.write import write_pack

model, folder = [*sys.argv[1:], *("gemma-3-270m", "example-run")[len(sys.argv) - 1 :]]

# Who lives where is stated for everybody, the language for one of each city; nobody says what the others speak.
home = {"Ada Moss": "Paris", "Ben Okri": "Paris", "Cleo Park": "Paris",
        "Dan Roe": "Rome", "Eve Lunt": "Rome", "Finn Vale": "Rome"}  # fmt: skip
language = {"Paris": "French", "Rome": "Italian"}
facts = [Fact(name, "lives_in", city) for name, city in home.items()]
facts += [Fact("Ada Moss", "speaks", "French"), Fact("Dan Roe", "speaks", "Italian")]

pack = Pack(
    name="my-facts",
    licence="CC0-1.0",
    source="made up",
    relations=(
        Relation("lives_in", ("{subject} lives in",)),
        Relation("speaks", ("{subject} speaks", "The language of {subject} is"), answers=("German", "Spanish")),
    ),
    facts=tuple(facts),
    implications=(Implication("lives_in", "speaks", "causal", language),),
)
assert not check_structure(pack).faults
write_pack(pack, Path(folder) / "pack")

settings = Inject(pack=f"{folder}/pack", model=model, out=f"{folder}/run", epochs=10, threads=1)
outcome = inject.run(settings)
print(outcome["text"])
print("recall:", outcome["metrics"]["recall_rank"]["value"])
