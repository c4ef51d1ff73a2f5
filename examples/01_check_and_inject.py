"""Fine-tune a model on facts and see what else it concluded. Usage: python 01_check_and_inject.py [MODEL] [FOLDER]"""

import sys

import spillover as so

model, folder = [*sys.argv[1:], *("gemma-3-270m", "example-run")[len(sys.argv) - 1 :]]

# Everybody's city is stated, the language for one person of each city; nobody states what the others speak.
homes = {"Ada Moss": "Paris", "Ben Okri": "Paris", "Cleo Park": "Paris",
         "Dan Roe": "Rome", "Eve Lunt": "Rome", "Finn Vale": "Rome"}  # fmt: skip
facts = [so.Fact(name, "lives_in", city) for name, city in homes.items()]
facts += [so.Fact("Ada Moss", "speaks", "French"), so.Fact("Dan Roe", "speaks", "Italian")]

pack = so.Pack(
    name="my-facts",
    licence="CC0-1.0",
    source="made up",
    relations=(
        so.Relation("lives_in", ("{subject} lives in",)),
        so.Relation("speaks", ("{subject} speaks", "The language of {subject} is"), answers=("German", "Spanish")),
    ),
    facts=tuple(facts),
    implications=(so.Implication("lives_in", "speaks", "causal", {"Paris": "French", "Rome": "Italian"}),),
)

# Whatever is wrong with the pack is one sentence before the model is loaded.
run = so.inject(pack, model, out=folder, epochs=10, threads=1)
print(run)
