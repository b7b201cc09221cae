"""A small stand-in for LuminoraCore: its names, its signatures, its habits, good and bad."""
