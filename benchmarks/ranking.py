"""Ranking answers against EleutherAI's lm-evaluation-harness (its HFLM) on the same model; one run, ratios.

    python benchmarks/ranking.py [--model gemma-3-270m] [--questions 80] [--repeats 5] [--threads 1] [--dtype bfloat16]

Needs `pip install lm_eval`, best in a virtual environment of its own beside `spillover[embedded]`. Both sides use one
copy of weights in float32 on as many threads as there are cores, in turns, and are charged for all from texts to
log-probabilities, tokens included. HFLM keeps its default cache of logits, which scores all one-token answers of a
prompt in one go, does without the cache of keys and values that it never reads, and runs at whichever batch size was
fastest on a part of the questions. Long prompts come with a quarter of the questions. No two answers share their first
token and no two prompts more than their start token, so that we gain by neither. Both must give the same ranks, unless
our side computes in bfloat16 (`--dtype`) and the harness in float32 as before; what that changes is printed. With one
thread, processor time is compared, which other work on the machine changes least.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from random import Random

import numpy as np
import torch

from spillover.lm.load import LoadedModel, load_model
from spillover.lm.score import Scorer
from spillover.lm.tokens import Encoder, Request, encoder, request
from spillover.packs.builtin import draw_names
from spillover.packs.open import open_pack
from spillover.packs.pack import Pack, Relation

try:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
except ModuleNotFoundError as error:
    raise SystemExit(f"This needs {error.name}: run `pip install lm_eval` in an environment of its own.") from None

#: Places of two to four tokens each (checked below for the model at hand).
PLACES = (
    "Buenos Aires", "Cape Town", "Hong Kong", "Marrakesh", "Phnom Penh", "Rio de Janeiro", "Samarkand", "Timbuktu",
    "Trondheim", "Vladivostok",
)  # fmt: skip
SHORT = "{subject} lives in"
LONG = (
    "{subject} grew up by the sea, studied abroad for several years and, after a long career in shipping, "
    "moved house one last time: as friends who visit every summer tell us, {subject} lives in"
)
#: Log-probabilities that differ by less than this are a tie in which rounding may decide.
TIE = 1e-3
#: Texts on which the harness's batch sizes are tried, at least: two of the largest batches.
SWEPT = 128


@dataclass(frozen=True)
class Case:
    """Questions of one relation, with the same candidates each; question i expects candidate i, over and over."""

    name: str
    pack: Pack
    relation: str
    prompt: int
    subjects: Sequence[str]

    def asks(self, encode: Encoder) -> list[Request]:
        return [request(encode, self.pack, self.relation, subject, self.prompt) for subject in self.subjects]

    def requests(self) -> list[Instance]:
        """One request a question and candidate, as the harness takes them."""
        texts = [self.pack.prompt(self.relation, subject, self.prompt) for subject in self.subjects]
        pairs = [(text, self.pack.join + answer) for text in texts for answer in self.pack.candidates[self.relation]]
        return [Instance("loglikelihood", {}, pair, number) for number, pair in enumerate(pairs)]

    @property
    def expected(self) -> list[int]:
        count = len(self.pack.candidates[self.relation])
        return [number % count for number in range(len(self.subjects))]


def cases(questions: int) -> list[Case]:
    """Answers of one token from a built-in pack, and of two to four tokens after short and after long prompts."""
    subjects = draw_names(questions, Random("ranking"))
    places = Pack("places", "none", "written", (Relation("lives_in", (SHORT, LONG), PLACES),), ())
    return [
        Case("one-token answers", open_pack("city-language"), "speaks", 0, subjects),
        Case("longer answers", places, "lives_in", 0, subjects),
        Case("longer answers, longer prompts", places, "lives_in", 1, subjects[: -(-questions // 4)]),
    ]


def describe(case: Case, asks: Sequence[Request]) -> str:
    """The case in numbers; stops when its answers are not of as many tokens as its name says."""
    prompts = sorted(len(each.prompt) for each in asks)
    answers = sorted(len(answer) for each in asks for answer in each.candidates)
    allowed = {1} if case.name == "one-token answers" else {2, 3, 4}
    if not set(answers) <= allowed:
        raise SystemExit(f"{case.name}: this model's tokens cut the answers into {sorted(set(answers))} tokens.")
    if len({answer[0] for answer in asks[0].candidates}) < len(asks[0].candidates):
        raise SystemExit(f"{case.name}: under this model's tokens, two answers share their first token.")
    lengths = "1 token" if allowed == {1} else f"{answers[0]} to {answers[-1]}"
    return (
        f"{case.name}: {len(asks)} prompts of {prompts[0]} to {prompts[-1]} tokens, "
        f"{len(asks[0].candidates)} candidates of {lengths} each"
    )


def ours(loaded: LoadedModel, case: Case) -> list[np.ndarray]:
    """Our log-probabilities, candidates of a question to a row."""
    return Scorer(loaded.model).score(case.asks(encoder(loaded.tokenizer)))


def theirs(loaded: LoadedModel, case: Case, batch: int) -> Callable[[], list[np.ndarray]]:
    """The same by the harness, in batches of texts."""
    harness = HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=batch)
    requests, encode = case.requests(), encoder(loaded.tokenizer)
    context, answer = requests[0].args
    if harness.tok_encode(context + answer) != encode(context + answer):
        raise SystemExit("The harness makes other tokens of a text than we do, so that nothing can be compared.")

    def run() -> list[np.ndarray]:
        found = [score for score, _ in harness.loglikelihood(requests, disable_tqdm=True)]
        return np.split(np.array(found), len(case.subjects))

    return run


def fastest_batch(loaded: LoadedModel, case: Case, batches: Sequence[int]) -> int:
    """The batch size at which the harness is fastest, tried once each; prints all of them."""
    # The harness feeds a prompt once for all its one-token answers, and once an answer otherwise.
    texts = 1 if case.name == "one-token answers" else len(case.pack.candidates[case.relation])
    part = replace(case, subjects=case.subjects[: -(-SWEPT // texts)])
    theirs(loaded, replace(case, subjects=case.subjects[:1]), 1)()
    taken = {batch: seconds(theirs(loaded, part, batch)) for batch in batches}
    best = min(taken, key=taken.__getitem__)
    shown = ", ".join(f"{batch}: {took:.2f} s" for batch, took in taken.items())
    print(f"  harness, {len(part.subjects)} prompts in batches of {shown}; best {best}", flush=True)
    return best


def seconds(work: Callable[[], object]) -> float:
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    began = clock()
    work()
    return clock() - began


def compared(
    own: Sequence[np.ndarray], other: Sequence[np.ndarray], expected: Sequence[int], exact: bool = True
) -> str:
    """How many ranks are equal; in float32, stops at one that differs by more than ties."""
    found, theirs = ([rank(*each) for each in zip(scores, expected, strict=True)] for scores in (own, other))
    if exact:
        refuse_other_ranks(found, other, expected)
    same = sum(one == two for one, two in zip(found, theirs, strict=True))
    apart = max(float(np.abs(one - two).max()) for one, two in zip(own, other, strict=True))
    off = np.abs(np.subtract(found, theirs)).max()
    rest = f"within ties of {TIE:.0e}" if exact else f"{off:.0f} places off at most"
    return (
        f"same rank in {same} of {len(found)}, the rest {rest}; mean rank {np.mean(found):.2f} and "
        f"{np.mean(theirs):.2f}; log-probabilities differ by {apart:.0e} at most"
    )


def rank(scores: np.ndarray, expected: int) -> float:
    """How many others score higher, those that score the same by half."""
    others = np.delete(scores, expected) - scores[expected]
    return float((others > 0).sum() + (others == 0).sum() / 2)


def refuse_other_ranks(ranks: Sequence[float], scores: Sequence[np.ndarray], expected: Sequence[int]) -> None:
    """Stop when a rank is not what these scores give, however candidates within a tie are ordered."""
    for number, (found, each, right) in enumerate(zip(ranks, scores, expected, strict=True)):
        others = np.delete(each, right) - each[right]
        least, most = (others > TIE).sum(), (others >= -TIE).sum()
        assert least <= found <= most, f"question {number}: rank {found} by us, {least} to {most} by the harness"


def compare(loaded: LoadedModel, own: LoadedModel, case: Case, repeats: int, batches: Sequence[int]) -> None:
    """Print the harness's batch sizes, the median time of each side, the ratios, and that the ranks are the same."""
    dtype = str(own.model.dtype).removeprefix("torch.")
    print(f"{describe(case, case.asks(encoder(loaded.tokenizer)))}, {loaded.name}, {dtype}", flush=True)
    harness = theirs(loaded, case, fastest_batch(loaded, case, batches))
    runs: dict[str, Callable[[], object]] = {"ours": lambda: ours(own, case), "harness": harness}
    scores = harness()
    verdict = compared(ours(own, case), scores, case.expected, dtype == "float32")
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            taken[name].append(seconds(run))
    for name, values in taken.items():
        ratios = [other / own for own, other in zip(values, taken["harness"], strict=True)]
        text = f"  {name:<10} {statistics.median(values):.3f} s ({min(values):.3f} to {max(values):.3f})"
        if name != "harness":
            text += f"; harness takes {statistics.median(ratios):.2f} times as long"
            text += f" ({min(ratios):.2f} to {max(ratios):.2f})"
        print(text)
    print(f"  {verdict}", flush=True)


def main() -> None:
    """Compare every case; one untimed run of each side comes first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="gemma-3-270m")
    parser.add_argument("--questions", type=int, default=80)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch-sizes", default="1,4,8,16,32,64", help="what the harness may choose from")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="what our side computes in")
    options = parser.parse_args()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    torch.set_num_threads(options.threads)
    loaded = load_model(options.model, device="cpu", dtype="float32")
    own = loaded if options.dtype == "float32" else load_model(options.model, device="cpu", dtype=options.dtype)
    loaded.model.config.use_cache = False
    print(f"lm-evaluation-harness {version('lm_eval')}, {torch.get_num_threads()} threads")
    for case in cases(options.questions):
        compare(loaded, own, case, options.repeats, [int(size) for size in options.batch_sizes.split(",")])


if __name__ == "__main__":
    main()
