"""What fine-tuning does inside a model: the output-value products of its attention heads, and where a change lives."""
