"""Every built-in pack with more than the default's answers: twenty pairs, or as many as there are real subjects for."""

from spillover.packs.builtin import PACKS

WIDE = {name: f"{name}:pairs=20" for name in PACKS} | {"city-talisman": "city-talisman:pairs=16,names=128"}
