"""Interventions against unwanted conclusions (the user's word is remedy): on data, on training, on weights."""
