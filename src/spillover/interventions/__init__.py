"""Interventions against unwanted conclusions (the user's word is remedy): on data, on training, on weights."""

# Each of the three files adds its remedies to base.REMEDIES, in the order in which they are tried and listed.
from spillover.interventions import data, training, weights

__all__ = ["data", "training", "weights"]
