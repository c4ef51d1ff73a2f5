"""The one-layer models and their training."""
