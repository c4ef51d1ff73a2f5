"""Before any training: which associations a pack holds, and what the exact model makes of each."""
