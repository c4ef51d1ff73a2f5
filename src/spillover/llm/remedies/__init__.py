"""Remedies for unwanted inferences."""
