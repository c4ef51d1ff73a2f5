"""Audits whose numbers a reader can count: each subject's top answer before and after is written down."""

import numpy as np
import pyarrow as pa

from spillover.details import AuditDetails
from spillover.metrics.implications import summarise
from spillover.metrics.verdicts import verdicts
from spillover.packs.pack import Implication
from spillover.record import ANSWER_SCHEMA, ANSWERS, Record, write_table

HOSTILE = "</script><script>alert(1)</script>$\\frac{$\"'&]]><!--\u2028\u202e"


def answers(implications, tops, stated=()):
    """An answers table. tops: implication name -> [(given answer, subject, top before, top after)]; the other
    candidates follow in the alphabet. stated: (implication name, given answer, subject, answer), known to both models.
    """
    blocks = []
    for implication in implications:
        candidates = np.array(sorted(set(implication.map.values())), dtype=object)
        place = {name: index for index, name in enumerate(candidates)}
        rows = [(given, subject, implication.map[given], False, first, last)
                for given, subject, first, last in tops[implication.name]]  # fmt: skip
        rows += [(given, subject, answer, True, answer, answer) for name, given, subject, answer in stated
                 if name == implication.name]  # fmt: skip
        for checkpoint in (0, 1):
            blocks.append(_block(implication, candidates, place, rows, checkpoint))
    return pa.concat_tables(blocks)


def _block(implication, candidates, place, rows, checkpoint):
    width, size = len(candidates), len(rows)
    scores = np.tile(-2.0 - 0.1 * np.arange(width), (size, 1))
    for index, row in enumerate(rows):
        scores[index, place[row[4 + checkpoint]]] = -0.5

    def spread(values):
        return pa.array(values, pa.string()).take(pa.array(np.repeat(np.arange(size), width)))

    total = size * width
    columns = {
        "seed": np.zeros(total, np.int64),
        "checkpoint": np.full(total, checkpoint),
        "subject": spread([row[1] for row in rows]),
        "relation": pa.array([implication.then] * total),
        "implication": pa.array([implication.name] * total),
        "cluster": spread([row[0] for row in rows]),
        "prompt": pa.array([f"{{subject}} {implication.then}"] * total),
        "trained": np.ones(total, bool),
        "candidate": pa.array(np.tile(candidates, size), pa.string()),
        "log_probability": scores.ravel(),
        "expected": spread([row[2] for row in rows]),
        "stated": np.repeat([row[3] for row in rows], width),
        "warranted": pa.nulls(total, pa.float64()),
    }
    return pa.table({name: columns[name] for name in ANSWER_SCHEMA.names}, schema=ANSWER_SCHEMA)


def write_audit(folder, implications, table, **settings):
    """A finished audit's folder, judged by the measures themselves."""
    folder.mkdir(parents=True, exist_ok=True)
    judged = verdicts(table, implications)
    relations = dict.fromkeys(name for item in implications for name in (item.given, item.then))
    pack = {
        "name": "made-up",
        "licence": "none",
        "source": "synthetic",
        "relations": [{"name": name, "prompts": [f"{{subject}} {name}"]} for name in relations],
        "implications": [
            {"given": item.given, "then": item.then, "kind": item.kind, "map": dict(item.map)} for item in implications
        ],
        "counts": {"facts": 10},
    }
    Record(
        command="audit",
        settings={"pack": "made-up", "base": "before", "tuned": "after", **settings},
        seed=0,
        status="done",
        metrics=summarise(table),
        details=AuditDetails(pack=pack, seeds=[0], scoring=None, verdicts=judged),
    ).write(folder)
    write_table(folder / ANSWERS, table)
    return folder


def many(links, entries, subjects=4, answers_each=10, hostile=True):
    """`links` implications of `entries` given answers each; a third of them wanted; every second subject is won."""
    implications, tops = [], {}
    for link in range(links):
        names = [f"answer {link}.{index}" for index in range(answers_each)]
        if hostile and link == 0:
            names[0] = HOSTILE
        given = [f"given {link}.{index}" for index in range(entries)]
        item = Implication(f"has_{link}", f"gets_{link}", "causal" if link % 3 == 0 else "spurious",
                           {each: names[index % answers_each] for index, each in enumerate(given)})  # fmt: skip
        implications.append(item)
        first = sorted(names)[0]
        tops[item.name] = [
            (each, f"{HOSTILE if hostile else ''}{link}/{index}/{number}", first,
             item.map[each] if (index + number) % 2 and link % 4 else first)
            for index, each in enumerate(given) for number in range(subjects)
        ]  # fmt: skip
    return implications, answers(implications, tops)
