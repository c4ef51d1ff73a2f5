"""What a run of `inject` computes, counted from its pack and its model's configuration: tokens, logits, weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from spillover.facts.pack import Pack
from spillover.llm.examination import Examination
from spillover.llm.forest import Forest, cheaper_merged
from spillover.llm.forgetting import WINDOW
from spillover.llm.memory.forecast import PROMPTS, ROWS, evenly
from spillover.llm.memory.micro_batch import cut
from spillover.llm.scoring import CausalModel, Scorer
from spillover.llm.tokens import Encoder, Row, ask
from spillover.llm.training import Training, may_merge, shuffled

Number = int | float


@dataclass(frozen=True)
class Passes:
    """Passes through a model, as many as `count`, and of all together: tokens fed, filled-up ones too; pairs of tokens
    that attention compares; positions at which logits are computed."""

    count: Number = 0
    tokens: Number = 0
    pairs: Number = 0
    logits: Number = 0

    def __add__(self, other: Passes) -> Passes:
        return Passes(self.count + other.count, self.tokens + other.tokens, self.pairs + other.pairs,
                      self.logits + other.logits)  # fmt: skip

    def __mul__(self, times: Number) -> Passes:
        return Passes(self.count * times, self.tokens * times, self.pairs * times, self.logits * times)


@dataclass(frozen=True)
class Sizes:
    """A model as a cost sees it. matrices: weights that each token is multiplied with; trained_matrices: those of them
    that are trained; vocabulary: weights of the output embedding; trains_vocabulary: whether they are trained; trained:
    all trained weights; all: all weights; attended: numbers that a pair of tokens takes part in; layers; itemsize:
    bytes a weight."""

    matrices: int
    trained_matrices: int
    vocabulary: int
    trains_vocabulary: bool
    trained: int
    all: int
    attended: int
    layers: int
    itemsize: int

    @classmethod
    def of(cls, model: CausalModel) -> Sizes:
        """The sizes of what `trainable_copy` gives; its weights may have no numbers. Of a mixture of experts, all of
        them count for each token, which is more than is computed."""
        config = model.config.get_text_config()
        outputs = model.get_output_embeddings()
        embeddings = {id(module.weight) for module in (model.get_input_embeddings(), outputs)}
        inner = [each for each in model.parameters() if each.dim() > 1 and id(each) not in embeddings]
        trained = [each for each in model.parameters() if each.requires_grad]
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return cls(
            matrices=sum(each.numel() for each in inner),
            trained_matrices=sum(each.numel() for each in inner if each.requires_grad),
            vocabulary=outputs.weight.numel(),
            trains_vocabulary=outputs.weight.requires_grad,
            trained=sum(each.numel() for each in trained),
            all=sum(each.numel() for each in model.parameters()),
            attended=2 * config.num_hidden_layers * config.num_attention_heads * head,
            layers=config.num_hidden_layers,
            itemsize=outputs.weight.element_size(),
        )


@dataclass(frozen=True)
class Portion:
    """What a pack gives to compute. epoch: one epoch's forward and backward passes; steps: of AdamW in it; full, part:
    an examination in all words and in the trained words; full_rows, part_rows: the rows of answers that these leave."""

    epoch: Passes
    steps: Number
    full: Passes
    part: Passes
    full_rows: int
    part_rows: int

    @classmethod
    def of(
        cls, model: CausalModel, taught: Pack, asked: Pack, training: Training, encode: Encoder, *,
        micro_batch: int = 0, lines: int = 0,
    ) -> Portion:  # fmt: skip
        """Counted on the very forests that a run would feed; of a large pack, on a sample.

        model: a trainable copy, with or without numbers. taught: the pack whose rows are trained on; asked: the one
        that is asked about; lines: texts that are trained beside its rows. micro_batch: rows at once, 0 for the batch.
        """
        facts = evenly(taught.facts, ROWS)
        rows = [_row(encode, taught, fact.relation, fact.subject, fact.answer) for fact in facts]
        times = (len(taught.facts) + lines) / max(1, len(rows))
        batches, merge = list(shuffled(rows, training, 1)), bool(rows) and may_merge(model, rows, "tree")
        parts = [part for batch in batches for part in cut(batch, micro_batch or training.batch)]
        epoch = _together(cheaper_merged(part) if merge else [Forest([row]) for row in part] for part in parts)
        full, full_rows = _examined(model, asked, encode, full=True)
        part, part_rows = _examined(model, asked, encode, full=False)
        return cls(epoch * times, len(batches) * times, full, part, full_rows, part_rows)


@dataclass(frozen=True)
class Workload:
    """One run. training: forward and backward passes; asking: of ranking; reading: of plain text, once a run; steps: of
    AdamW; answers: rows of the table of answers."""

    sizes: Sizes
    training: Passes
    asking: Passes
    reading: Passes
    steps: Number
    answers: int

    @classmethod
    def of(cls, sizes: Sizes, portion: Portion, reading: Passes, epochs: int, evaluate_every: int) -> Workload:
        """A run of so many epochs, examined in full before and after and in part in between."""
        between = (epochs - 1) // evaluate_every
        return cls(
            sizes=sizes,
            training=portion.epoch * epochs,
            asking=portion.full * 2 + portion.part * between,
            reading=reading,
            steps=portion.steps * epochs,
            answers=2 * portion.full_rows + between * portion.part_rows,
        )


def reading(texts: Sequence[str], encode: Encoder) -> Passes:
    """Plain text, a passage a pass, with logits behind every token."""
    lengths = [len(encode(text)[:WINDOW]) for text in texts]
    return sum((Passes(1, length, length**2, length - 1) for length in lengths), Passes())


def _row(encode: Encoder, pack: Pack, relation: str, subject: str, answer: str) -> Row:
    before = encode(pack.prompt(relation, subject))
    return Row(tuple(encode(pack.prompt(relation, subject) + pack.join + answer + (pack.end or ""))), len(before))


def _examined(model: CausalModel, pack: Pack, encode: Encoder, full: bool) -> tuple[Passes, int]:
    items = [item for item in Examination(pack, encode).items if full or item.prompt == 0]
    keys = dict.fromkeys((item.question.relation, item.question.subject, item.prompt) for item in items)
    some = evenly(list(keys), PROMPTS)
    fed = _together(Scorer(model, method="tree").passes([ask(encode, pack, *key) for key in some]))
    rows = sum(len(pack.candidates[item.question.relation]) for item in items)
    return fed * (len(keys) / max(1, len(some))), rows


def _together(passes: Iterable[Sequence[Forest]]) -> Passes:
    return sum((_fed(forests) for forests in passes), Passes())


def _fed(forests: Sequence[Forest]) -> Passes:
    width = max(map(len, forests))
    tokens = len(forests) * width
    return Passes(1, tokens, tokens * width, sum(len(forest.scored) for forest in forests))
