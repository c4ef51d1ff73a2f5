"""Language models: loading, tokens, scores, fine-tuning, memory and distribution."""
