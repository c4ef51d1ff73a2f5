"""Settings of the verbs that run a language model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tyro.conf import Positional

from spillover.settings.common import MOST_THREADS, Flag, Running, within


@dataclass(frozen=True, kw_only=True)
class Inject(Running):
    """Fine-tune a model on a pack, and measure before, during and after what it learned and what else it inferred."""

    pack: Positional[str]
    """A built-in pack with its options, a pack folder, or a pack.yaml."""
    model: str
    """A tag (gemma-3-270m), a hub id, a local model folder, a PEFT adapter folder or a GGUF file."""
    out: str
    """Folder of the run: record.json, answers.parquet, trajectory.parquet and weights if asked for."""
    epochs: int = 8
    """Passes over the stated rows."""
    lr: float = 5e-5
    """Learning rate of AdamW, constant."""
    batch: int = 8
    """Rows a step; reshuffled every epoch."""
    micro_batch: int = 0
    """Rows of a step that are computed at once, their gradients summed; 0 takes the whole batch if there is memory for
    it, and the record says how many it was. Fewer when memory runs out."""
    weight_decay: float = 0.0
    """Decoupled weight decay of AdamW."""
    optimiser: Literal["adamw", "adamw-8bit"] = "adamw"
    """What updates the weights: torch's AdamW, or that of bitsandbytes, which keeps its two sums in 8 bits each."""
    gradient_checkpointing: Flag = False
    """Keep only what enters each layer, and compute the layer again on the way back: less memory, more time."""
    compile_layers: Flag = False
    """Compile the layers' code before the first step, which takes a minute: faster steps on a GPU, the same numbers
    within rounding. It takes Triton there, a C++ compiler elsewhere."""
    logits_at_once: int = 0
    """Answer tokens whose logits stand at the same time in training; 0 takes all of a micro-batch. Fewer take less
    memory and more time."""
    freeze_embeddings: bool = True
    """Leave input and output embeddings as they are; train everything else."""
    lora: int = 0
    """Train a LoRA adapter of this rank instead of the weights; 0 trains the weights."""
    lora_targets: str = ""
    """Modules that get an adapter, by name or the end of it, as q_proj,v_proj; by default all linear ones but the
    output embedding."""
    evaluate_every: int = 1
    """Measure after every so many epochs (and always before the first and after the last)."""
    chat: Flag = False
    """Put each prompt as a user's turn in the model's own chat template; answers begin where the model's turn does."""
    inside: Flag = False
    """Also look inside: the spectrum of every attention head's output-value product and of its change."""
    facts_known: Flag = False
    """Train on the stated implications alone: the facts that they start from are asked and never trained, since the
    model knows them. Not together with --remedy."""
    until_learned: Flag = False
    """Stop at the first measurement at which facts and stated implications have a mean rank of 0.1 or less."""
    until_nats: float = 0.0
    """Stop at the first measurement at which, besides, the stated answers lose no more than so many nats a row on
    average; 0 does not stop for that."""
    remedy: str = ""
    """Against what nobody wants concluded: NAME=STRENGTH, several joined by `+`, as in abstention=2+lazier=1.5. See
    `mitigate` for the names."""
    tuned: str = ""
    """For a remedy on finished weights: take those that this run of the same command without it kept with --save delta,
    instead of training again."""
    plain_text: str | None = None
    """A text file for measuring forgetting; by default the bundled public-domain passages."""
    save: Literal["weights", "delta", "none"] = "none"
    """What to keep of the model: all weights, only those that changed, or nothing."""
    seeds: str = ""
    """Several seeds, as 0,1,2: a run each in OUT/seed-N, and one pooled record in OUT."""
    sharded: Flag = False
    """Split the model over the processes (FSDP), as `accelerate launch --use_fsdp` says; part of a run's identity."""
    track: Literal["none", "tensorboard", "trackio", "wandb", "mlflow"] = "none"
    """Also tell an experiment tracker, step by step. Its package must be installed; it writes into the run's folder
    unless it is set up to write elsewhere. No part of a run's identity."""
    processes: int = 1
    """Processes that share the work: as many as `accelerate launch` started. Part of a run's identity, as sums are."""
    redact: Flag = False
    """Call subjects `subject 1`, `subject 2` and so on in everything written, drawn or printed, in the order of the
    pack. Answers stay, also one that is a subject's name; so do paths, and weights that were trained on the names.
    Part of a run's identity."""


@dataclass(frozen=True, kw_only=True)
class Mitigate(Running):
    """Compare remedies against unwanted conclusions, all at the same learning, and recommend one or none."""

    pack: Positional[str]
    """A built-in pack with its options, a pack folder, or a pack.yaml; its implications say what is wanted."""
    model: str
    """A tag (gemma-3-270m), a hub id, a local model folder, a PEFT adapter folder or a GGUF file."""
    out: str
    """Folder of the comparison: cells/ with a run each, frontier.parquet, page.html and record.json."""
    remedies: str = ""
    """Names, separated by commas; several joined by `+` are one combination, each with its strength, as in
    lora,abstention=2+lazier=1.5. By default every remedy on its own."""
    strengths: str = ""
    """Strengths for every remedy named without one, as 0.5,1; by default each remedy's own."""
    epochs: int = 30
    """The most passes over the rows; what has not learned by then says so."""
    untreated_epochs: int = 10
    """Passes of the untreated run, whose learning the others must match."""
    lr: float = 5e-5
    """Learning rate of AdamW, constant."""
    batch: int = 8
    """Rows a step; reshuffled every epoch."""
    freeze_embeddings: bool = True
    """Leave input and output embeddings as they are; train everything else."""
    chat: Flag = False
    """Put each prompt as a user's turn in the model's own chat template; answers begin where the model's turn does."""
    seeds: str = ""
    """Several seeds, as 0,1,2, which the figures pool; fewer than ten clusters (seeds times pairs) decide nothing."""
    save: Literal["delta", "none"] = "none"
    """What each run keeps of its weights: nothing, or how they differ from the base model's, to look into it later."""
    processes: int = 0
    """Runs at the same time; 0 shares the cores out evenly, as many to each run as --threads says."""
    threads: int = 1
    """Processor threads of each run; 0 takes every core. Part of a run's identity, since sums depend on it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        within("--processes", self.processes, MOST_THREADS)


@dataclass(frozen=True, kw_only=True)
class Repair(Running):
    """Apply a remedy to a finished model, write the result as a new model, and audit both."""

    model: Positional[str]
    """The tuned model: a local model folder, a hub id, a PEFT adapter folder or a GGUF file. It is never written to."""
    pack: str
    """What it was tuned on: a built-in pack with its options, a pack folder, or a pack.yaml."""
    remedy: str
    """A remedy for finished weights, as in ignore-topk=0.1; several are joined by `+`."""
    out: str
    """Folder of the repair: weights/ with the new model, before/ and after/ with an audit each, and record.json."""
    base: str = ""
    """The model that it was tuned from; an adapter says so itself."""
    chat: Flag = False
    """Put each prompt as a user's turn in the model's own chat template; answers begin where the model's turn does."""


@dataclass(frozen=True, kw_only=True)
class Predict(Running):
    """Before any training: what a model will conclude from a pack, how strongly, and what that rests on."""

    pack: Positional[str]
    """A built-in pack with its options, a pack folder, or a pack.yaml."""
    model: str | None = None
    """The model that is to be trained: also ask what it already believes. Without it, scores rest on the pack alone."""
    out: str = ""
    """Folder for record.json, from which `report` makes a page; by default nothing is written."""
    chat: Flag = False
    """Put each prompt as a user's turn in the model's own chat template; answers begin where the model's turn does."""
    evidence: int = 10
    """Of the so many highest scores, also the range of the margin and the fewest rows that would undo it."""
    most: int = 2000
    """Look at so many associations at most, those with the most exposed subjects first."""
    redact: Flag = False
    """Call subjects `subject 1`, `subject 2` and so on in everything written or printed, in the order of the pack.
    Answers stay, also one that is a subject's name; so do paths. Part of a run's identity."""


@dataclass(frozen=True, kw_only=True)
class Audit(Running):
    """Compare two models on a pack, without training: which implications did the tuned one learn, wanted or not?"""

    pack: Positional[str]
    """A built-in pack with its options, a pack folder, or a pack.yaml."""
    base: str
    """The model before fine-tuning: a tag, a hub id, a local folder, a PEFT adapter folder or a GGUF file."""
    tuned: str
    """The model after fine-tuning, named likewise; an adapter is merged into the base that it names."""
    out: str = ""
    """Folder for record.json and answers.parquet, from which `report` makes a page; by default nothing is written."""
    chat: Flag = False
    """Put each prompt as a user's turn in the model's own chat template; answers begin where the model's turn does."""
    fail_on: Literal["unwanted", "undecided", "never"] = "unwanted"
    """Exit with 1 when an implication is unwanted; or also when one is undecided; or never."""
    level: float = 0.05
    """Level of the tests, corrected for the number of implications."""
    negligible: float = 0.1
    """An effect below this share of the way from `marginal_rank` to rank 0 counts as none."""
    junit: str = ""
    """Also write the verdicts as a JUnit XML file, which CI systems show as tests."""
    processes: int = 1
    """Processes that share the work: as many as `accelerate launch` started. Part of a run's identity, as sums are."""
    redact: Flag = False
    """Call subjects `subject 1`, `subject 2` and so on in everything written, drawn or printed, in the order of the
    pack. Answers stay, also one that is a subject's name; so do paths. Part of a run's identity."""
    open: Flag = False
    """Also look for what nobody declared: everyday sentence beginnings about subjects of the pack and names that it
    does not hold, compared over the whole vocabulary. Costs some 3,000 short prompts a model (at most 16,000, whatever
    the pack's size), and loads each model once more for examples. The pack need not declare an implication."""
    probes: str = ""
    """With --open: a text file of further sentence beginnings, one a line, each with {subject} in it."""
