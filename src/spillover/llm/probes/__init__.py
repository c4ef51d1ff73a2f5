"""Open probes: everyday sentences about a pack's subjects, continued by a model as it likes."""
