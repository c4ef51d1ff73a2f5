"""Remedies on finished weights as treatments: the tuned model is changed in place, given its base."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import torch
from torch import Tensor

from spillover.facts.treated import further_subjects
from spillover.llm.inside.heads import places
from spillover.llm.remedies import Remedy, Scene, Treatment
from spillover.llm.remedies.after import constant_direction, ignore_topk, scale_back, spectral_clip
from spillover.llm.scoring import CausalModel

#: (scene, tuned model, strength) -> the new value of every weight that differs from the base's, by name.
Change = Callable[[Scene, CausalModel, float], dict[str, Tensor]]
#: Prompts about never-seen subjects behind the mean inputs.
PROMPTS = 24


class Finished(Treatment):
    """Changes finished weights."""

    def __init__(self, strength: float, change: Change) -> None:
        super().__init__(strength)
        self.change = change

    def finish(self, scene: Scene, tuned: CausalModel) -> None:
        found = self.change(scene, tuned, self.strength)
        own = tuned.state_dict()
        with torch.no_grad():
            for name, value in found.items():
                own[name].copy_(value)


def _ignore_topk(scene: Scene, tuned: CausalModel, strength: float) -> dict[str, Tensor]:
    return ignore_topk.apply(scene.base.state_dict(), tuned.state_dict(), strength)


def _scale_back(scene: Scene, tuned: CausalModel, strength: float) -> dict[str, Tensor]:
    return scale_back.apply(scene.base.state_dict(), tuned.state_dict(), strength)


def _spectral_clip(scene: Scene, tuned: CausalModel, strength: float) -> dict[str, Tensor]:
    return spectral_clip.apply(scene.base.state_dict(), tuned.state_dict(), strength, places(tuned))


def _constant_direction(scene: Scene, tuned: CausalModel, strength: float) -> dict[str, Tensor]:
    """Mean inputs are those of the pack's prompts about subjects that it does not hold."""
    pack, random = scene.pack, Random(f"constant {scene.seed}")
    subjects = further_subjects(pack, PROMPTS, f"constant {scene.seed}")
    relations = [relation.name for relation in pack.relations]
    prompts = [scene.encode(pack.prompt(relations[int(random.random() * len(relations))], each)) for each in subjects]
    inputs = constant_direction.mean_inputs(tuned, prompts)
    return constant_direction.apply(scene.base.state_dict(), tuned.state_dict(), strength, inputs)


def _remedy(text: str, strength: str, strengths: tuple[float, ...], change: Change) -> Remedy:
    return Remedy(text, strength, strengths, 1.0, lambda dose: Finished(dose, change), after=True)


IGNORE_TOPK = _remedy(
    "Sets the weights that changed most back to what they were.",
    "the share of each matrix that is set back",
    (0.05, 0.1),
    _ignore_topk,
)
SPECTRAL_CLIP = _remedy(
    "Clips the largest singular values of the change of each head's output-value product.",
    "how far below the largest they are clipped, as a share of it",
    (0.5, 0.9),
    _spectral_clip,
)
CONSTANT_DIRECTION = _remedy(
    "Takes out of the change what it adds to every input alike.",
    "the share of it that is taken out",
    (0.5, 1.0),
    _constant_direction,
)
SCALE_BACK = _remedy(
    "Scales the whole change back: the plain baseline of the other remedies on finished weights.",
    "the share of the change that is taken back",
    (0.1, 0.3),
    _scale_back,
)
