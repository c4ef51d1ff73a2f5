"""The one-layer model, small enough to solve: tables, exact solutions, solvers, certificates, and training.

Notation, paper (arXiv 2506.10887) to code; docs/theory.md derives what is said here. W multiplies from the left:
scores of (s, r) are W (e_s + e_r), a column of logits, one an answer.

| symbol | code name | shape | meaning |
|---|---|---|---|
| n | `classes` | number | classes of the symbolic task |
| m_train, m_test | `train`, `test` | numbers | subjects a class with fact and implication, and with the fact alone |
| s, r, a | `subject`, `relation`, `answer` | codes | a row of the table says that a answers r for s |
| b_i, c_i | answers `b...`, `c...` | rows | fact answer and implication answer of class i |
| r1, r2 | `FACT`, `IMPLICATION` | columns | the two relations of the symbolic task |
| W = W_OV | `weights()` | answers x (subjects + relations) | effective output-value matrix |
| g | `sizes` | signatures | subjects that state the same and share a column |
| M = W sqrt(g) | `matrix` | answers x (signatures + relations) | the compressed, scaled matrix; same norms as W |
| k | `cell` | cells | a stated (signature, relation) with its answer a* |
| A_k | (never built) | as M | (e_a* - e_a') (e_s / sqrt(g) + e_r)^T, so that <A_k, M> is a margin |
| lambda | `multipliers` | cells x answers | dual variables, one a cell and wrong answer, non-negative |
| C(lambda) | `force` | cells x answers | row k: sum over a' of lambda_(k,a') (e_a* - e_a') |
| sum_k lambda_k A_k | `gather @ force` | as M, transposed | the sum of multipliers; its dual norm scales their bound |
| B | `design` | cells x columns | turns the columns of M into the scores of cells: Z = B M^T |
| rho | `margin` | number | margin of an unstated implication, min(1, sqrt(m_train / m_test)) or 0 |
| P = I - 11^T/n | `pattern` coefficients | n x n | centring over classes; the closed forms are P and constants |
| eta, rho (solver) | `balance`, `weight` | numbers | step sizes of the splitting method |
| W_O, W_V, W_KQ | `models` | d x d_h, d x d_h, d x d | trained factors; the solver needs only their product |
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spillover.theory.models import Model as Model
    from spillover.theory.solving import certify as certify
    from spillover.theory.solving import solve as solve
    from spillover.theory.symbolic import EqualClasses as EqualClasses
    from spillover.theory.symbolic import Task as Task
    from spillover.theory.training import Probe as Probe
    from spillover.theory.training import Recipe as Recipe
    from spillover.theory.training import train as train

#: What users import from here: name -> its module, imported when the name is first asked for, for torch is slow.
EXPORTS = {
    **dict.fromkeys(("EqualClasses", "Task"), "symbolic"),
    **dict.fromkeys(("certify", "solve"), "solving"),
    **dict.fromkeys(("Probe", "Recipe", "train"), "training"),
    "Model": "models",
}


def __getattr__(name: str) -> Any:
    if name not in EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *EXPORTS])
