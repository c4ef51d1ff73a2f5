"""What a run takes of memory: foretold, chosen to fit, and taken in smaller parts when it runs out."""
