"""Synthetic runs whose numbers a reader can count."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pytest

from spillover.details import InjectDetails
from spillover.metrics.implications import TRAJECTORY_SCHEMA, summarise
from spillover.packs.pack import Implication
from spillover.record import ANSWER_SCHEMA, ANSWERS, TRAJECTORY, Metric, Record, write_table
from spillover.report.audit import build_audit_page
from spillover.report.load import load_run
from spillover.report.pages import build_runs_page
from spillover.report.study import build_study_page
from spillover.report.study_data import load_study
from tests.report.synthetic_audit import answers, many, write_audit

CITIES = {"Paris": "French", "Tokyo": "Japanese", "Rome": "Italian", "Oslo": "Norwegian", "Lima": "Spanish"}
SHIFTED = dict(zip(CITIES, ["Japanese", "Italian", "Norwegian", "Spanish", "French"], strict=True))
OTHERS = ["Danish", "Greek", "Korean", "Polish", "Swedish"]


@dataclass
class Synthetic:
    """What a synthetic run looks like: `right` names of every pair are right after training, `names` are asked."""

    name: str = "city-language"
    kind: str = "causal"
    map: dict = field(default_factory=lambda: dict(CITIES))
    right: int = 7
    names: int = 8
    bridge: int = 2
    epochs: int = 4
    seeds: tuple = (0,)
    status: str = "done"
    freeze: bool = True
    others: tuple = tuple(OTHERS)
    metrics: dict = field(default_factory=dict)
    prefix: str = "Name"
    implications: bool = True
    learns: int = 1  # the epoch from which on the stated rows are known
    ends: dict = field(default_factory=dict)  # seed -> its own last epoch
    lr: float = 5e-5
    lora: int = 0
    judged: bool = False  # whether what the base model warrants is known: the expected answer

    def last(self, seed):
        return self.ends.get(seed, self.epochs)


def scores(candidates, order):
    """Log-probabilities that put `order` first, in that order."""
    rest = [name for name in candidates if name not in order]
    return {name: math.log(0.6) - 1.5 * place for place, name in enumerate([*order, *rest])}


def answer_rows(run: Synthetic):
    """Rows of an answers table: unstated and stated implications, and the stated facts."""
    languages = sorted({*run.map.values(), *run.others})
    cities = sorted(run.map)
    key = "lives_in->speaks" if run.implications else None

    def block(seed, epoch, subject, relation, implication, city, prompt, expected, stated, order, candidates):
        for candidate, score in scores(candidates, order).items():
            head = (seed, epoch, subject, relation, implication, city, prompt, not prompt.startswith("The"))
            judged = None if stated or not run.judged else 0.0 if candidate == expected else -5.0
            yield (*head, candidate, score, expected, stated, judged)

    for seed in run.seeds:
        for epoch in range(run.last(seed) + 1):
            learned = epoch == run.last(seed)
            for city, language in run.map.items():
                for index in range(run.names + run.bridge):
                    subject = f"{run.prefix} {city[:20]} {index}"
                    lives = [city] if epoch >= run.learns else [cities[0]]
                    yield from block(
                        seed, epoch, subject, "lives_in", None, city, f"{subject} lives in", city, True, lives, cities
                    )
                    stated = index >= run.names
                    good = epoch >= run.learns if stated else learned and index < run.right
                    # Otherwise the alphabet decides: Danish first, French 1, Italian 3, Japanese 4, Norwegian 6,
                    # Spanish 8, which is a mean rank of 4.4 for any pairing of the five.
                    order = [language] if good else []
                    expected = language if run.implications or stated else None
                    for prompt in (f"{subject} speaks", f"The language of {subject} is"):
                        yield from block(
                            seed, epoch, subject, "speaks", key, city, prompt, expected, stated, order, languages
                        )


def trajectory_rows(run: Synthetic):
    key = "lives_in->speaks" if run.implications else None
    for seed in run.seeds:
        for epoch in range(run.last(seed) + 1):
            part = epoch / max(1, run.epochs)
            step = epoch * 15
            yield seed, float(epoch), step, None, "recall_rank", 2.0 * (1 - part) + 0.1 * seed
            yield seed, float(epoch), step, key, "implication_rank_train", 2.5 * (1 - part)
            yield seed, float(epoch), step, key, "implication_rank_test", 3.0 * (1 - part)
            if epoch:
                yield seed, float(epoch), step, None, "train_loss", 2.0 / epoch


def metrics(run: Synthetic, answers: pa.Table):
    """What the measures say of the answers, and a forgetting of 0.21 nats."""
    lost = {"forgetting_nats": Metric(0.21, 0.18, 0.25, 900, 30, "nats")}
    return {**summarise(answers), **lost, **run.metrics} if run.status == "done" else {}


def write_run(folder: Path, run: Synthetic | None = None) -> Path:
    """Write a synthetic run folder."""
    run = run or Synthetic()
    folder.mkdir(parents=True, exist_ok=True)
    answers = table(ANSWER_SCHEMA, answer_rows(run))
    link = {"given": "lives_in", "then": "speaks", "kind": run.kind, "map": run.map}
    facts = len(run.map) * (run.names + 2 * run.bridge)
    pack = {
        "name": run.name,
        "licence": "BSD-3-Clause",
        "source": "synthetic",
        "relations": [
            {"name": "lives_in", "prompts": ["{subject} lives in"]},
            {"name": "speaks", "prompts": ["{subject} speaks", "The language of {subject} is"]},
        ],
        "implications": [link] if run.implications else [],
        "counts": {"facts": facts, "subjects": len(run.map) * (run.names + run.bridge), "questions": 40},
    }
    model = {
        "name": "gemma-3-270m",
        "licence_note": "Gemma terms",
        "parameters": 268000000,
        "trained_parameters": 10**8,
    }
    record = Record(
        command=f"spillover inject {run.name} --model gemma-3-270m",
        settings={
            "pack": run.name,
            "model": "gemma-3-270m",
            "epochs": run.epochs,
            "freeze_embeddings": run.freeze,
            "lr": run.lr,
            "lora": run.lora,
        },
        seed=run.seeds[0],
        status=run.status,
        identity="0123456789abcdef",
        hashes={"pack": "ab" * 32, "model": "cd" * 32},
        versions={"python": "3.11", "torch": "2.13.0"},
        commit="c7c46f7",
        hardware={"system": "Linux", "cores": 2},
        seconds=241.0,
        metrics=metrics(run, answers),
        details=InjectDetails(pack=pack, model=model, seeds=list(run.seeds)),
    )
    record.write(folder)
    write_table(folder / ANSWERS, answers)
    write_table(folder / TRAJECTORY, table(TRAJECTORY_SCHEMA, trajectory_rows(run)))
    return folder


def table(schema, rows):
    columns = list(zip(*rows, strict=True)) or [[] for _ in schema.names]
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )


@pytest.fixture
def synthetic():
    return Synthetic


@pytest.fixture
def make(tmp_path):
    """`make(name=..., right=...)` writes a synthetic run and loads it."""
    made = []

    def build(**values):
        made.append(values)
        return load_run(write_run(tmp_path / f"run-{len(made)}", Synthetic(**values)))

    return build


@pytest.fixture(scope="session")
def pair(tmp_path_factory):
    """A true link and a false one, as `make demo` shows them."""
    folder = tmp_path_factory.mktemp("pair")
    false = Synthetic(name="city-language-counterfactual", kind="counterfactual", right=6)
    return [load_run(write_run(folder / name, run)) for name, run in (("true", Synthetic()), ("false", false))]


@pytest.fixture(scope="session")
def page(pair):
    """The page of the pair."""
    return build_runs_page(pair).html()


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    """A study of sets, bridging names and rates, with a cell that failed and one that waits."""
    from tests.report.synthetic_study import write_study

    return load_study(write_study(tmp_path_factory.mktemp("study") / "out"))


@pytest.fixture(scope="session")
def study_page(study):
    """Its page."""
    return build_study_page(study).html()


@pytest.fixture
def edit(tmp_path):
    """Write a run, change its record.json through a function, and give the folder."""

    def build(change, **values):
        folder = write_run(tmp_path / "edited", Synthetic(**values))
        path = folder / "record.json"
        fields = json.loads(path.read_text())
        change(fields)
        path.write_text(json.dumps(fields))
        return folder

    return build


@pytest.fixture(scope="session")
def paper_study(tmp_path_factory):
    """Gemma on one set, all right; Gemma-3-270M on the same; OLMo waits, and Qwen failed."""
    from tests.report.synthetic_study import of_model, write_study

    folder = tmp_path_factory.mktemp("paper") / "out"
    cells = {"gemma": Synthetic(seeds=(0, 1, 2), right=8, freeze=False), "small": Synthetic(seeds=(0, 1, 2), right=7)}
    write_study(folder, cells, [("The paper's table", "paper-table", ["gemma", "small", "olmo", "broken"])])
    of_model(folder, {"gemma": "google/gemma-2-9b", "small": "gemma-3-270m", "broken": "qwen2-7b"})
    return load_study(folder)


#: Three subjects live in A, three in B; the map says A -> x and B -> y, and z is a candidate by way of C -> z.
LINK = Implication("lives", "codes", "spurious", {"A": "x", "B": "y", "C": "z"})
TOPS = {
    LINK.name: [
        ("A", "a1", "z", "x"), ("A", "a2", "x", "x"), ("A", "a3", "z", "z"),
        ("B", "b1", "y", "y"), ("B", "b2", "x", "x"), ("B", "b3", "y", "x"),
    ]
}  # fmt: skip
STATED = [(LINK.name, "A", "s1", "x"), (LINK.name, "A", "s2", "x"), (LINK.name, "B", "s3", "z")]


@pytest.fixture
def small(tmp_path):
    """An audit that is small enough to count with a pencil."""
    return load_run(write_audit(tmp_path / "small", [LINK], answers([LINK], TOPS, STATED)))


@pytest.fixture(scope="session")
def large_page(tmp_path_factory):
    """The page of 2,000 associations of 40 implications, hostile text among their subjects and answers."""
    folder = tmp_path_factory.mktemp("audit") / "large"
    return build_audit_page([load_run(write_audit(folder, *many(40, 50)))]).html()
