"""Spillover: what else did this fine-tuning teach the model?"""

__version__ = "0.1.0"
