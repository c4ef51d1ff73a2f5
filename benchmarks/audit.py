"""A whole audit against EleutherAI's lm-evaluation-harness scoring a sample of the same texts, and its peak memory.

    python benchmarks/audit.py [--model gemma-3-270m] [--questions 10000] [--small 1000] [--sample 40]
                               [--batch-sizes 1,4,8,16,32,64]

Needs `pip install lm_eval`, as `benchmarks/ranking.py` does, whose parts this uses. Ours is `spillover audit` in a
process of its own, on questions with ten candidates of two to four tokens each, once for the base and once for
the tuned model (here the same weights): reading the pack, loading both models, asking them, verdicts and the record.
It also asks every stated fact, which an audit reports as recall. The harness is charged for scoring alone, from texts
to log-probabilities, at its fastest batch size, on a sample of as many facts as questions; its time is taken times
what two models are asked in all, and once more for the questions alone. Both must give the same ranks on the sample.

Subjects are pairs of a given name and a surname, each of which occurs about a hundred times, as among real customers;
prompts therefore share a few first tokens, and answers share none. Peak memory is that of the whole process.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from random import Random

import numpy as np
import torch
from ranking import PLACES, Case, compared, describe, fastest_batch, seconds, theirs

from spillover.commands import audit
from spillover.commands.audit import Audit
from spillover.lm.load import LoadedModel, load_model
from spillover.lm.tokens import encoder
from spillover.packs.builtin import draw_names, shuffled
from spillover.packs.pack import Fact, Implication, Pack, Relation
from spillover.packs.write import write_pack
from spillover.record import ANSWERS, read_table

#: Subjects of each place who state where they work too.
BRIDGING = 4


def pack_of(questions: int) -> Pack:
    """Subjects who live in one of ten places and do not say where they work, and some who state both."""
    count = questions + BRIDGING * len(PLACES)
    side = math.isqrt(count - 1) + 1
    parts = [name.split() for name in draw_names(side, Random("audit"))]
    pairs = [f"{given} {surname}" for given, _ in parts for _, surname in parts]
    subjects = shuffled(pairs, Random("pairs"))[:count]
    works = dict(zip(PLACES, (*PLACES[1:], PLACES[0]), strict=True))
    lives = [Fact(subject, "lives_in", PLACES[index % len(PLACES)]) for index, subject in enumerate(subjects)]
    both = [Fact(fact.subject, "works_in", works[fact.answer]) for fact in lives[questions:]]
    relations = (Relation("lives_in", ("{subject} lives in",)), Relation("works_in", ("{subject} works in",)))
    link = Implication("lives_in", "works_in", "spurious", works)
    return Pack("places", "none", "written", relations, (*lives, *both), (link,))


def audited(folder: Path, model: str, threads: int) -> None:
    """The child's part: one audit of the pack in `folder`, its seconds and its process's peak memory as JSON."""
    began = time.perf_counter()
    audit.run(Audit(pack=str(folder / "pack"), base=model, tuned=model, out=str(folder / "run"), fail_on="never",
                    device="cpu", threads=threads))  # fmt: skip
    taken = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps({"seconds": taken, "peak": peak}))


def ours(folder: Path, questions: int, model: str, threads: int) -> dict[str, float]:
    """Audit a pack in a process of its own; prints what it took."""
    write_pack(pack_of(questions), folder / "pack")
    command = [sys.executable, __file__, "--child", str(folder), "--model", model, "--threads", str(threads)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"  ours, {questions:,} questions: {found['seconds']:.1f} s, peak {found['peak'] / 1e6:.0f} MB", flush=True)
    return found


def sampled(pack: Pack, questions: int, sample: int) -> list[Case]:
    """The first questions and as many of the stated facts, as the harness is asked them."""
    subjects = pack.subjects[: min(sample, questions)]
    return [
        Case(f"longer answers, {name}", pack, relation, 0, subjects)
        for name, relation in (("facts", "lives_in"), ("questions", "works_in"))
    ]


def our_scores(run: Path, case: Case) -> list[np.ndarray]:
    """What the audit wrote of the base model on the case: candidates of a question to a row."""
    table = read_table(run / ANSWERS)
    scores: dict[str, dict[str, float]] = {}
    wanted = set(case.subjects)
    columns = [
        table[name].to_pylist() for name in ("checkpoint", "relation", "subject", "candidate", "log_probability")
    ]
    for checkpoint, relation, subject, candidate, score in zip(*columns, strict=True):
        if checkpoint == 0 and relation == case.relation and subject in wanted:
            scores.setdefault(subject, {})[candidate] = score
    return [
        np.array([scores[subject][each] for each in case.pack.candidates[case.relation]]) for subject in case.subjects
    ]


def harness_rate(loaded: LoadedModel, case: Case, run: Path, batches: list[int]) -> float:
    """Seconds that the harness takes for one prompt of the case with all its candidates."""
    print(f"{describe(case, case.asks(encoder(loaded.tokenizer)))}")
    scoring = theirs(loaded, case, fastest_batch(loaded, case, batches))
    scores = scoring()
    places = case.pack.candidates[case.relation]
    stated = case.pack.implications[0].map if case.relation == "works_in" else {place: place for place in places}
    lives = case.pack.stated
    expected = [places.index(stated[lives[subject, "lives_in"]]) for subject in case.subjects]
    print(f"  {compared(our_scores(run, case), scores, expected)}")
    taken = seconds(scoring)
    print(f"  harness: {taken:.2f} s for {len(case.subjects)} prompts", flush=True)
    return taken / len(case.subjects)


def compare(options: argparse.Namespace) -> None:
    """Audit the small and the whole number of questions, then the harness's sample; print ratios and memory."""
    shown = f"{options.model}, float32, {options.threads} threads"
    print(f"lm-evaluation-harness {version('lm_eval')}, {shown}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small = ours(folder / "small", options.small, options.model, options.threads)
        whole = ours(folder / "whole", options.questions, options.model, options.threads)
        ratio = whole["peak"] / small["peak"]
        print(f"  peak memory: {ratio:.2f} times that of {options.small:,} questions", flush=True)
        torch.set_num_threads(options.threads)
        loaded = load_model(options.model, device="cpu")
        loaded.model.config.use_cache = False
        batches = [int(size) for size in options.batch_sizes.split(",")]
        rates = [
            harness_rate(loaded, case, folder / "whole" / "run", batches)
            for case in sampled(pack_of(options.questions), options.questions, options.sample)
        ]
    # Both relations are stated of the bridging subjects, and one of the others.
    everything = 2 * sum(rates) * (options.questions + BRIDGING * len(PLACES))
    for what, taken in (("all that two models are asked", everything),
                        ("the questions alone", 2 * rates[1] * options.questions)):  # fmt: skip
        ratio = taken / whole["seconds"]
        print(f"harness, {what}, from the sample: {taken:.0f} s, {ratio:.2f} times as long as the audit", flush=True)


def main() -> None:
    """One audit in this process, when asked by the parent; otherwise the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="gemma-3-270m")
    parser.add_argument("--questions", type=int, default=10_000)
    parser.add_argument("--small", type=int, default=1_000, help="questions of the audit that memory is held against")
    parser.add_argument("--sample", type=int, default=40, help="facts, and as many questions, that the harness scores")
    parser.add_argument("--batch-sizes", default="1,4,8,16,32,64", help="what the harness may choose from")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        audited(Path(options.child), options.model, options.threads)
    else:
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        compare(options)


if __name__ == "__main__":
    main()
