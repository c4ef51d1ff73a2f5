"""The paper's own numbers, to be read beside ours."""

from __future__ import annotations

from spillover import catalog

#: Where they come from. The paper gives no errors with them, as far as this source tells.
SOURCE = (
    "arXiv 2506.10887 (NeurIPS 2025), mean rank on unstated implications, as reported by one published note; "
    "no errors are given with these numbers."
)
#: How the paper's setting differs from a small model with frozen embeddings.
DIFFERENCES = (
    "The paper’s models have 7 to 9 billion parameters and were fine-tuned in full, embeddings included. It also ranks "
    "among ten candidates, but which ten, and its prompts, names and pairs, are not known to us, and it does not draw "
    "the yardstick. So compare the pattern across the sets rather than single numbers."
)
#: What may differ with the paper's own models, too.
UNKNOWN = (
    "The paper’s prompts, names, pairs, which ten candidates it ranks among, and its learning rates are not known "
    "here, and it does not draw the yardstick. So compare the pattern across sets and models rather than single "
    "numbers."
)
MODELS = ("Gemma-2-9B", "OLMo-7B", "Qwen-2-7B", "Mistral-7B-v0.3", "Llama-3-8B")
#: What these models are called here, in the same order.
TAGS = ("gemma-2-9b", "olmo-7b", "qwen2-7b", "mistral-7b-v0.3", "llama-3-8b")
#: Pack -> mean rank on unstated implications after training, a number a model in the order of MODELS; 0 is best.
RANKS: dict[str, tuple[float, ...]] = {
    "city-language": (0.00, 0.07, 0.13, 0.00, 0.00),
    "city-language-counterfactual": (0.19, 1.33, 4.55, 2.10, 1.18),
    "country-code": (0.19, 0.15, 3.63, 1.48, 0.77),
    "profession-color": (1.64, 1.84, 0.82, 1.15, 0.93),
    "sport-music": (0.56, 0.17, 0.40, 1.28, 0.63),
}


def name_of(model: str) -> str:
    """What the paper calls a model that is named by its tag or hub id; other models keep their own name."""
    known = {called: name for name, tag in zip(MODELS, TAGS, strict=True) for called in (tag, catalog.MODELS[tag])}
    return known.get(model, model)
