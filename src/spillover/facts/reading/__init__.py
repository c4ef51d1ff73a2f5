"""How a pack's files are read: as text, whole, with the place of everything that is wrong."""
