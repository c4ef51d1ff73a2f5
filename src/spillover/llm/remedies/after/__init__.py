"""Remedies for a finished model: base weights and tuned weights in, new weights out; one file each.

`apply(base, tuned, strength)` gives the new value of every weight that training changed, by name. At strength 0 these
are the tuned weights themselves.
"""
