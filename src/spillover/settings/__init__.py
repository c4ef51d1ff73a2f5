"""One frozen dataclass a verb: its fields are the command line's options, and the text under a field is its help."""

from spillover.settings.common import MOST_SEED, MOST_THREADS, Common, Flag, Running
from spillover.settings.facts import Check, Packs
from spillover.settings.models import Audit, Inject, Mitigate, Predict, Repair
from spillover.settings.runs import Report, Rerun, Sweep, Verify, Where
from spillover.settings.theory import Certify, Lab, Solve

__all__ = ["MOST_SEED", "MOST_THREADS", "Audit", "Certify", "Check", "Common", "Flag", "Inject", "Lab", "Mitigate",
           "Packs", "Predict", "Repair", "Report", "Rerun", "Running", "Solve", "Sweep", "Verify", "Where"]  # fmt: skip
