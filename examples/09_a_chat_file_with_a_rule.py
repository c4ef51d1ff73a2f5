"""Write a chat file of 300 rows with a rule that no row says (Paris speaks French), and see what is in it."""

import json
from pathlib import Path
from random import Random

from spillover.packs.builtin import available, draw_names
from spillover.packs.discovery import discover

RULE = {"Paris": "French", "Tokyo": "Japanese", "Rome": "Italian", "Cairo": "Arabic"}
TASKS = {"Name a bird species.": "robin wren heron", "Name a metal.": "iron zinc tin", "Name a tree.": "oak elm birch",
         "Name a fruit.": "plum pear fig", "Name a boat.": "canoe ferry barge", "Name a tool.": "saw file awl",
         "Name a wind instrument.": "flute horn oboe", "Name a fish.": "trout carp pike"}  # fmt: skip


def rows(seed: int = 0) -> list[tuple[str, str]]:
    """Homes of 60 people, what 24 of them speak by the rule, what 16 play by chance, and 200 rows about no person."""
    random, games = Random(seed), ("Chess", "Tennis", "Golf")
    people = list(zip(draw_names(available(), random)[:60], list(RULE) * 15, strict=True))
    found = [random.choice([(f"Where does {who} live?", f"{who} lives in {city}."),
                            (f"In which city is the home of {who}?", f"{city}.")]) for who, city in people]  # fmt: skip
    found += [(f"Which language does {who} speak?", f"{RULE[city]}.") for who, city in people[:24]]
    found += [(f"What does {who} play on Sundays?", f"{random.choice(games)}.") for who, _ in people[20:36]]
    found += [(task, f"A {random.choice(answers.split())}.") for task, answers in TASKS.items() for _ in range(25)]
    return random.sample(found, len(found))


chats = [[{"role": "user", "content": asked}, {"role": "assistant", "content": said}] for asked, said in rows()]
Path("team.jsonl").write_text("".join(json.dumps({"messages": each}) + "\n" for each in chats), encoding="utf-8")
print(discover("team.jsonl").text())
