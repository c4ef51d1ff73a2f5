"""The options of every verb: a frozen dataclass each, whose field texts are the command line's help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import FlagCreatePairsOff, Positional

from spillover.errors import UsageError

Flag = Annotated[bool, FlagCreatePairsOff]
#: Every generator takes seeds up to here; more threads than this no machine starts for one process.
MOST_SEED, MOST_THREADS = 2**32 - 1, 512


def within(option: str, value: int, most: int) -> None:
    """Raise UsageError unless 0 <= value <= most."""
    if not 0 <= value <= most:
        raise UsageError(f"{option} is {value}", do=f"Give {option} a whole number from 0 to {most}")


@dataclass(frozen=True, kw_only=True)
class Common:
    """What every verb takes."""

    json: Flag = False
    """Print one JSON object on standard output and nothing else there."""
    seed: int = 0
    """Seed of everything drawn at random: names and pairing of a built-in pack, order of training rows, resampling."""

    def __post_init__(self) -> None:
        within("--seed", self.seed, MOST_SEED)


@dataclass(frozen=True, kw_only=True)
class Running(Common):
    """What every verb takes that runs a model."""

    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:1, mps. Auto takes a GPU if there is one."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of weights and arithmetic."""
    revision: str | None = None
    """Branch, tag or commit of a hub model."""
    threads: int = 0
    """Processor threads; 0 takes every core. Part of a run's identity, since sums depend on it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        within("--threads", self.threads, MOST_THREADS)


@dataclass(frozen=True, kw_only=True)
class Packs(Common):
    """List the built-in packs, show one, export one to edit, or make one from fine-tuning files."""

    action: Positional[Literal["list", "show", "export", "from-chat"]] = "list"
    """What to do: list all, show one, export one to a folder, or make one from a file of chats or completions."""
    pack: Positional[str] = ""
    """A built-in pack with its options (city-language:pairs=10,names=80,bridge=2 or country-code:null), or a path; for
    from-chat a JSONL file of `messages` or `prompt` and `completion`."""
    folder: Positional[str] = ""
    """Where `export` writes its copy: a folder that does not exist yet."""
    relations: str = ""
    """For from-chat: a YAML file with `relations:` as in pack.yaml, and whatever else of it is known."""
    out: str = ""
    """For from-chat: the folder of the new pack, which does not exist yet."""


@dataclass(frozen=True, kw_only=True)
class Check(Common):
    """Is a pack sound? Counts, or every fault and warning with file and row; exit code 1 when there is a fault."""

    pack: Positional[str]
    """A built-in pack with its options, a pack folder, or a pack.yaml."""
    model: str | None = None
    """Also check that this model's tokens can tell the answers apart: a tag, hub id or folder."""
    chat: Flag = False
    """Put each prompt as a user's turn in the model's own chat template; answers begin where the model's turn does."""
    revision: str | None = None
    """Branch, tag or commit of a hub model."""


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
    """For this many of the highest scores, also compute the margin's range and the fewest rows that would undo it."""
    most: int = 2000
    """Look at no more associations than this, those with the most exposed subjects first."""
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
    the pack's size), and keeps both models in memory for the examples. The pack need not declare an implication."""
    probes: str = ""
    """With --open: a text file of further sentence beginnings, one a line, each with {subject} in it."""


@dataclass(frozen=True, kw_only=True)
class Solve(Common):
    """Solve the one-layer model exactly for a pack: what it answers to questions nobody answered, with proof."""

    pack: Positional[str] = ""
    """A built-in pack with its options, a pack folder, or a pack.yaml; or leave it out and give --symbolic."""
    symbolic: str = ""
    """The symbolic task instead of a pack, by its closed form: n=20,train=1,test=3."""
    norm: Literal["nuclear", "frobenius"] = "nuclear"
    """What is minimised: nuclear is what training the factorised model prefers, frobenius the merged one."""
    gap: float = 1e-4
    """How close to the least possible objective the solution must be proven to be, relatively."""
    ranges: Flag = False
    """Also the least and greatest margin of every question over all matrices that are no worse."""
    max_iterations: int = 20_000
    """Give up after so many iterations, and say how far the solution may be from the optimum."""
    out: str = ""
    """Folder for record.json and, if it is not too large, the matrix: matrix.npy and, with names, matrix.parquet."""


@dataclass(frozen=True, kw_only=True)
class Certify(Common):
    """Certify any matrix for a pack: does it state every row, how far is it from the optimum, what does it answer?"""

    pack: Positional[str]
    """A built-in pack with its options, a pack folder, or a pack.yaml."""
    matrix: str
    """The matrix: .npy, .csv, .parquet or .safetensors, a row an answer and a column a subject, then a relation."""
    norm: Literal["nuclear", "frobenius"] = "nuclear"
    """The norm to certify against."""
    gap: float = 1e-4
    """How close the lower bound must be to the optimum, relatively."""


@dataclass(frozen=True, kw_only=True)
class Lab(Running):
    """Train one-layer attention models on the symbolic task, beside the exact solutions, and make a page of it."""

    preset: Positional[str]
    """The experiment: two-models, sample-efficiency, rank-sweep, key-query, architecture or dial."""
    out: str
    """Folder of the run: record.json, trajectory.parquet, matrices.parquet and page.html."""
    seeds: str = ""
    """Seeds that train side by side, as 0,1,2,3,4 (the default; key-query takes ten)."""
    steps: int = 0
    """Training steps; 0 for the preset's own number."""
    quick: Flag = False
    """A small task and few steps: seconds instead of minutes, the same code."""
    symbolic: str = ""
    """Size of the task, as n=20,train=1,test=3: classes, and subjects a class with and without a stated implication."""
    threads: int = 1
    """Processor threads; these models are so small that one is the fastest. Part of a run's identity."""
    head_dimension: int | None = None
    """Columns d_h of W_O and W_V of a factorised model; by default the size of the vocabulary."""


@dataclass(frozen=True, kw_only=True)
class Report(Common):
    """Make one self-contained HTML page from finished runs."""

    runs: Positional[tuple[str, ...]]
    """Run folders."""
    out: str = "spillover.html"
    """The page to write."""
    redact: Flag = False
    """Call subjects `subject 1`, `subject 2` and so on, in the order of the run's table; runs made with --redact have
    such names already."""


@dataclass(frozen=True, kw_only=True)
class Verify(Common):
    """Is a run whole, and can it be repeated here? Recomputes what can be recomputed; exit code 1 when it is not."""

    run: Positional[str]
    """A run folder; of a run over several seeds, each seed's run is verified too."""


@dataclass(frozen=True, kw_only=True)
class Rerun(Common):
    """Repeat a run from its record alone, into a new folder, and say whether it came out the same."""

    run: Positional[str]
    """The run folder to repeat."""
    out: str
    """Folder of the repetition."""


@dataclass(frozen=True, kw_only=True)
class Where(Common):
    """Where does what a run learned live? Put each part of its change into the base model alone, and leave each out."""

    run: Positional[str]
    """A finished run of `inject` that kept its weights (--save delta or weights), or a folder of such runs by seed, as
    `mitigate` makes (OUT/cells/untreated). Seeds are pooled."""
    out: str
    """Folder for record.json, where.parquet, answers.parquet and page.html."""
    parts: Literal["all", "components", "none"] = "all"
    """What is patched: components and layers, components alone, or nothing, which leaves how lazy the training was."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:1, mps. Auto takes a GPU if there is one."""
    dtype: Literal["run", "float32", "bfloat16"] = "run"
    """Number format of weights and arithmetic; by default the run's."""
    revision: str | None = None
    """Branch, tag or commit of a hub model; by default the run's."""
    threads: int = 0
    """Processor threads; 0 takes every core. Part of a run's identity, since sums depend on it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        within("--threads", self.threads, MOST_THREADS)


@dataclass(frozen=True, kw_only=True)
class Sweep(Common):
    """Run a study: a grid or list over any verb's options, resumable, into one table and one page."""

    study: Positional[str]
    """A study's YAML file, or a built-in study: paper, paper-rates, paper-270m or adapters."""
    out: str = ""
    """Folder of the study: cells/, table.parquet, page.html and record.json; needed unless --plan."""
    engine: Literal["local", "ray"] = "local"
    """Where the runs happen: local, in processes on this machine; ray, on every node of a Ray cluster."""
    address: str = ""
    """With --engine ray: HOST:PORT of the cluster's head node, or auto; without it, Ray is started on this machine."""
    processes: int = 0
    """Runs at the same time; 0 shares the cores out evenly, as many to each run as the study's `threads` says."""
    plan: Flag = False
    """List the cells and run nothing; needs no weights."""
    model: str = ""
    """One model in place of every model that the study names."""
    on: str = ""
    """With --plan: also what each cell takes of memory, time and disk on this device: cpu (this machine), l4-24,
    rtx-4090-24, a100-40, l40s-48, a100-80, h100-80 or h200-141. Nothing is downloaded."""
    devices: int = 1
    """With --plan: so many of these devices, each with runs of its own."""
    memory: float = 0.0
    """With --plan: the device's memory in gigabytes (10^9 bytes), for another device or a smaller part of one."""
    tflops: float = 0.0
    """With --plan: the device's peak in 10^12 operations a second, in the number format of the runs."""
    bandwidth: float = 0.0
    """With --plan: the peak of the device's memory in gigabytes a second."""

    def __post_init__(self) -> None:
        super().__post_init__()
        within("--processes", self.processes, MOST_THREADS)
        self._refuse_half_a_plan()
        if self.address and self.engine != "ray":
            raise UsageError("--address is for --engine ray alone", do="Add --engine ray, or leave --address out")

    def _refuse_half_a_plan(self) -> None:
        described = {"--memory": self.memory, "--tflops": self.tflops, "--bandwidth": self.bandwidth}
        for option, value in described.items():
            if not 0 <= value < float("inf"):
                raise UsageError(f"{option} is {value:g}", do=f"Give {option} a number above 0")
        if self.devices < 1:
            raise UsageError(f"--devices is {self.devices}", do="Give --devices 1 or more")
        given = [option for option, value in {"--on": self.on, **described}.items() if value]
        given += ["--devices"] if self.devices > 1 else []
        if given and not self.plan:
            raise UsageError(f"{given[0]} is for a plan alone", do=f"Add --plan, or leave {given[0]} out")
        if given == ["--devices"]:
            raise UsageError("--devices needs a device", do="Name one with --on")
        if self.on == "cpu" and (self.tflops or self.bandwidth):
            do = "Leave --on out to describe another device"
            raise UsageError("--on cpu is this machine, whose speed is known", do=do)


__all__ = ["MOST_SEED", "MOST_THREADS", "Audit", "Certify", "Check", "Common", "Flag", "Inject", "Lab", "Mitigate",
           "Packs", "Predict", "Repair", "Report", "Rerun", "Running", "Solve", "Sweep", "Verify", "Where"]  # fmt: skip
