"""What updates the trained weights: an AdamW for each, whose sums are as precise as the weight or take 8 bits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from spillover.errors import UsageError


@runtime_checkable
class Optimiser(Protocol):
    """What updates one weight from its gradient. state: of that weight, what it keeps from step to step, by name."""

    state: dict[Any, Any]

    def step(self) -> None: ...


#: Every trained weight has an optimiser of its own.
Optimisers = dict[nn.Parameter, Optimiser]
PLAIN, EIGHT_BIT = "adamw", "adamw-8bit"
#: With 8 bits, weights of fewer numbers keep single precision, and so many numbers in a row share a scale each.
SMALL, BLOCK = 4096, 256
#: What AdamW's two sums forget a step, and what keeps it from dividing by zero: torch's own.
BETAS, EPSILON = (0.9, 0.999), 1e-8
#: Bytes a number that one update with 8 bits takes on a processor, where all is unpacked at once.
UPDATE = 20
#: What every 8-bit optimiser holds alike, so that no checkpoint need.
_CODES = ("qmap1", "qmap2")


def refuse_missing(optimiser: str) -> None:
    """Raise UsageError when the package that an optimiser comes from is not installed."""
    if optimiser == EIGHT_BIT and find_spec("bitsandbytes") is None:
        what = "the package that keeps an optimiser's sums in 8 bits is not installed"
        raise UsageError(what, where=f"--optimiser {optimiser}", do='Run `pip install "spillover[eight-bit]"`')


def optimisers(
    parameters: Iterable[tuple[str, nn.Parameter]], kind: str, rate: float, decay: Callable[[str], float]
) -> Optimisers:
    """An optimiser for every parameter (name, parameter); its sums are there before the first step.

    kind: PLAIN (torch's AdamW) or EIGHT_BIT (that of bitsandbytes). decay: the weight decay of a parameter by name.
    """
    make = _eight_bit if kind == EIGHT_BIT else _AdamW
    return {parameter: make(parameter, rate, decay(name)) for name, parameter in parameters}


class _AdamW:
    """AdamW of one weight. Its sums are there from the beginning, so that no step has a reason to fail half-way.

    The function itself, since torch's class takes four times as long around it as a small weight's update does.
    """

    def __init__(self, parameter: nn.Parameter, rate: float, decay: float) -> None:
        self.parameter, self.rate, self.decay = parameter, rate, decay
        self.state: dict[Any, Any] = {
            parameter: {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            }
        }

    @torch.no_grad()
    def step(self) -> None:
        kept, gradient = self.state[self.parameter], self.parameter.grad
        assert gradient is not None
        adamw(
            [self.parameter], [gradient], [kept["exp_avg"]], [kept["exp_avg_sq"]], [], [kept["step"]],
            fused=True, amsgrad=False, maximize=False, beta1=BETAS[0], beta2=BETAS[1], eps=EPSILON, lr=self.rate,
            weight_decay=self.decay,
        )  # fmt: skip


def _eight_bit(parameter: nn.Parameter, rate: float, decay: float) -> Optimiser:
    from bitsandbytes.optim import AdamW8bit

    made: Any = AdamW8bit([parameter], lr=rate, weight_decay=decay, min_8bit_size=SMALL)
    made.init_state(made.param_groups[0], parameter, 0, 0)
    found: Optimiser = made
    return found


def state_of(optimiser: Optimiser, parameter: nn.Parameter) -> dict[str, Tensor]:
    """All that later steps depend on, by the optimiser's own words. The sums are the tensors themselves."""
    return {key: torch.as_tensor(value) for key, value in optimiser.state[parameter].items() if key not in _CODES}


def restore(optimiser: Optimiser, parameter: nn.Parameter, key: str, value: Tensor) -> None:
    """Write one entry of `state_of` into an optimiser."""
    state: dict[str, Any] = optimiser.state[parameter]
    if not isinstance(state[key], Tensor):
        state[key] = int(value)
        return
    # Laid out in memory as the weight is, as AdamW does it.
    like = parameter if value.shape == parameter.shape else value
    own = torch.empty_like(like, dtype=value.dtype, device=parameter.device)
    state[key] = own.copy_(value)


def bytes_of_sums(parameters: Iterable[nn.Parameter], kind: str) -> int:
    """Bytes that the optimisers of these parameters keep."""
    return sum(_sums(parameter, kind) for parameter in parameters)


def _sums(parameter: nn.Parameter, kind: str) -> int:
    count = parameter.numel()
    if kind == PLAIN:
        return 2 * count * parameter.element_size()
    return 2 * count * 4 if count < SMALL else 2 * (count + 4 * -(-count // BLOCK) + 4 * 256)


def bytes_of_update(parameters: Mapping[str, nn.Parameter], kind: str, device: torch.device) -> int:
    """Bytes that the largest update takes beside what is kept."""
    if kind == PLAIN or device.type != "cpu":
        return 0
    return UPDATE * max((each.numel() for each in parameters.values()), default=0)
