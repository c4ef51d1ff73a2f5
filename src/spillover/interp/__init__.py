"""What fine-tuning does inside a model: output-value products, patching, linearisation, open probes."""
