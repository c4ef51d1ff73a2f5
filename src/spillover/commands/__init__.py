"""One file a verb: what the command line and the Python interface call."""
