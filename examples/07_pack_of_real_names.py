"""A pack of real people from your copy of PopQA. Usage: python 07_pack_of_real_names.py popqa.tsv FOLDER [PEOPLE]"""

import csv
import sys
from collections import Counter
from random import Random

from spillover import Fact, Implication, Pack, Relation, open_pack
from spillover.packs.write import write_pack

path, folder, people = sys.argv[1], sys.argv[2], int((*sys.argv, "500")[3])
PAIRS, BRIDGING, random = 5, 5, Random(0)
with open(path, encoding="utf-8-sig", newline="") as stream:
    rows = [(row["subj"], row["prop"], row["obj"]) for row in csv.DictReader(stream, delimiter="\t")]
kinds = {"place of birth": "born_in", "sport": "plays"}
common = {kind: Counter(answer for _, prop, answer in rows if prop == kind).most_common(PAIRS) for kind in kinds}
towns, sports = ([answer for answer, _ in each] for each in common.values())
names = dict.fromkeys(name for name, prop, _ in rows if prop in kinds and name not in (*towns, *sports))
link = dict(zip(towns, random.sample(sports, PAIRS), strict=True))  # drawn, so inferring it is unwanted

facts = []
for number, name in enumerate(random.sample(list(names), people)):
    town = towns[number % PAIRS]
    facts.append(Fact(name, "born_in", town))
    if number // PAIRS % BRIDGING == 0:
        facts.append(Fact(name, "plays", link[town]))
relations = (Relation("born_in", ("{subject} was born in",)), Relation("plays", ("{subject} plays",)))
licence = "unclear: look up the licence of your copy of PopQA"
pack = Pack("real-names", licence, path, relations, tuple(facts), (Implication("born_in", "plays", "spurious", link),))
print(write_pack(open_pack(pack), folder), pack)
