"""Pages from records. Nothing else knows HTML."""
