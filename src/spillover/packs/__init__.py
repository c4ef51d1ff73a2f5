"""Packs: relations, stated facts and implications; reading, checking, editing and writing them."""
