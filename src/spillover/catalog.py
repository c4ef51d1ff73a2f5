"""Everything on offer by name. A name maps to `module:attribute`, which is imported only when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from spillover.errors import UsageError, nearest

#: Built-in packs: name -> a function `(options: PackOptions) -> Pack`.
PACKS = {
    "city-language": "spillover.facts.packs.city_language:build",
    "city-language-counterfactual": "spillover.facts.packs.city_language_counterfactual:build",
    "country-code": "spillover.facts.packs.country_code:build",
    "profession-color": "spillover.facts.packs.profession_color:build",
    "sport-music": "spillover.facts.packs.sport_music:build",
    "mixed": "spillover.facts.packs.mixed:build",
    "mixed-currency": "spillover.facts.packs.mixed_currency:build",
    "mixed-state": "spillover.facts.packs.mixed_state:build",
    "city-talisman": "spillover.facts.packs.city_talisman:build",
}

#: Models by tag. `built-in` is converted from an installed package; the others are hub ids, read from the local cache.
MODELS = {
    "gemma-3-270m": "built-in",
    "gemma-2-9b": "google/gemma-2-9b",
    "olmo-7b": "allenai/OLMo-7B-0424-hf",
    "qwen2-7b": "Qwen/Qwen2-7B",
    "mistral-7b-v0.3": "mistralai/Mistral-7B-v0.3",
    "llama-3-8b": "meta-llama/Meta-Llama-3-8B",
}

#: Verbs: name -> the frozen settings dataclass whose fields are the options, and the job that runs them.
VERBS = {
    "packs": ("spillover.settings:Packs", "spillover.jobs.packs:run"),
    "check": ("spillover.settings:Check", "spillover.jobs.check:run"),
    "predict": ("spillover.settings:Predict", "spillover.jobs.predict:run"),
    "inject": ("spillover.settings:Inject", "spillover.jobs.inject:run"),
    "mitigate": ("spillover.settings:Mitigate", "spillover.jobs.mitigate:run"),
    "repair": ("spillover.settings:Repair", "spillover.jobs.repair:run"),
    "audit": ("spillover.settings:Audit", "spillover.jobs.audit:run"),
    "where": ("spillover.settings:Where", "spillover.jobs.where:run"),
    "report": ("spillover.settings:Report", "spillover.jobs.report:run"),
    "verify": ("spillover.settings:Verify", "spillover.jobs.verify:run"),
    "rerun": ("spillover.settings:Rerun", "spillover.jobs.rerun:run"),
    "solve": ("spillover.settings:Solve", "spillover.jobs.solve:run"),
    "certify": ("spillover.settings:Certify", "spillover.jobs.certify:run"),
    "lab": ("spillover.settings:Lab", "spillover.jobs.lab:run"),
    "sweep": ("spillover.settings:Sweep", "spillover.jobs.sweep:run"),
}

#: Experiments of `lab`: name -> a function `(scope: Scope) -> Findings`.
PRESETS = {
    "two-models": "spillover.jobs.presets.two_models:run",
    "sample-efficiency": "spillover.jobs.presets.sample_efficiency:run",
    "rank-sweep": "spillover.jobs.presets.rank_sweep:run",
    "key-query": "spillover.jobs.presets.key_query:run",
    "architecture": "spillover.jobs.presets.architecture:run",
    "dial": "spillover.jobs.presets.dial:run",
}

#: Remedies: name -> a spillover.llm.remedies.Remedy.
REMEDIES = {
    "abstention": "spillover.llm.remedies.abstention:REMEDY",
    "contradiction": "spillover.llm.remedies.contradiction:REMEDY",
    "local-negation": "spillover.llm.remedies.local_negation:REMEDY",
    "stepping-stone": "spillover.llm.remedies.stepping_stone:REMEDY",
    "known-facts": "spillover.llm.remedies.known_facts:REMEDY",
    "fewer-bridging": "spillover.llm.remedies.fewer_bridging:REMEDY",
    "facts-first": "spillover.llm.remedies.facts_first:REMEDY",
    "implications-first": "spillover.llm.remedies.implications_first:REMEDY",
    "stay-near-base": "spillover.llm.remedies.stay_near_base:REMEDY",
    "freeze-values": "spillover.llm.remedies.freeze_values:REMEDY",
    "freeze-outputs": "spillover.llm.remedies.freeze_outputs:REMEDY",
    "freeze-output-value": "spillover.llm.remedies.freeze_output_value:REMEDY",
    "attention-only": "spillover.llm.remedies.attention_only:REMEDY",
    "mlp-only": "spillover.llm.remedies.mlp_only:REMEDY",
    "earlier-layers": "spillover.llm.remedies.earlier_layers:REMEDY",
    "later-layers": "spillover.llm.remedies.later_layers:REMEDY",
    "attention-decay": "spillover.llm.remedies.attention_decay:REMEDY",
    "lora": "spillover.llm.remedies.lora:REMEDY",
    "lora-scaling": "spillover.llm.remedies.lora_scaling:REMEDY",
    "lazier": "spillover.llm.remedies.lazier:REMEDY",
    "early-stopping": "spillover.llm.remedies.early_stopping:REMEDY",
    "output-value-penalty": "spillover.llm.remedies.output_value_penalty:REMEDY",
    "ignore-topk": "spillover.llm.remedies.finished:IGNORE_TOPK",
    "spectral-clip": "spillover.llm.remedies.finished:SPECTRAL_CLIP",
    "constant-direction": "spillover.llm.remedies.finished:CONSTANT_DIRECTION",
    "scale-back": "spillover.llm.remedies.finished:SCALE_BACK",
}

#: Measures: name of the metric -> a function from the ranks of one checkpoint to a metric with its interval.
MEASURES = {
    "recall_rank": "spillover.measures.recall_rank:measure",
    "implication_rank_train": "spillover.measures.implication_rank_train:measure",
    "implication_rank_test": "spillover.measures.implication_rank_test:measure",
    "implication_accuracy_test": "spillover.measures.implication_accuracy_test:measure",
    "paraphrase_rank_test": "spillover.measures.paraphrase_rank_test:measure",
    "chance_rank": "spillover.measures.chance_rank:measure",
    "marginal_rank": "spillover.measures.marginal_rank:measure",
}

#: What the page of each experiment tells: name -> a function `(run: LabRun) -> Told`.
LAB_PAGES = {
    "two-models": "spillover.report.lab.two_models:tell",
    "sample-efficiency": "spillover.report.lab.sample_efficiency:tell",
    "rank-sweep": "spillover.report.lab.rank_sweep:tell",
    "key-query": "spillover.report.lab.key_query:tell",
    "architecture": "spillover.report.lab.architecture:tell",
    "dial": "spillover.report.lab.dial:tell",
}

#: Plots of the pages: name -> a function from runs, stories, cells or a comparison to a report.drawing.Drawing.
PLOTS = {
    "rank-change": "spillover.report.plots.rank_change:draw",
    "rank-by-epoch": "spillover.report.plots.rank_by_epoch:draw",
    "inferred-before": "spillover.report.plots.inferred_answers:before",
    "inferred-after": "spillover.report.plots.inferred_answers:after",
    "recall": "spillover.report.plots.recall:draw",
    "stated-links": "spillover.report.plots.stated_links:draw",
    "training-loss": "spillover.report.plots.training_loss:draw",
    "forgetting": "spillover.report.plots.forgetting:draw",
    "inside-change": "spillover.report.plots.inside_change:draw",
    "inside-shared": "spillover.report.plots.inside_shared:draw",
    "study-sets": "spillover.report.plots.study_sets:draw",
    "paper-table": "spillover.report.plots.paper_table:draw",
    "rank-by-adapter": "spillover.report.plots.rank_by_adapter:draw",
    "rank-by-bridging": "spillover.report.plots.rank_by_bridging:draw",
    "rank-by-rate": "spillover.report.plots.rank_by_rate:draw",
    "lab-curves": "spillover.report.plots.lab_curves:draw",
    "lab-matrices": "spillover.report.plots.lab_matrices:draw",
    "lab-pairs": "spillover.report.plots.lab_pairs:draw",
    "remedy-frontier": "spillover.report.plots.remedy_frontier:draw",
    "remedy-ladder": "spillover.report.plots.remedy_ladder:draw",
    "where-components": "spillover.report.plots.where_components:draw",
    "where-layers": "spillover.report.plots.where_layers:draw",
}


def find(reference: str) -> Any:
    """The object behind `module:attribute`, imported now."""
    module, _, attribute = reference.partition(":")
    return getattr(import_module(module), attribute)


def pick(shelf: dict[str, str], name: str, what: str) -> Any:
    """The object called `name` on a shelf; an unknown name is refused with the nearest one that exists.

    Raises UsageError; `what` says in one word what kind of name it was (pack, model, plot).
    """
    if name not in shelf:
        raise UsageError(f"there is no {what} called {name!r}", do=nearest(name, shelf))
    return find(shelf[name])
