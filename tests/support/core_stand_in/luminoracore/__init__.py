"""A small stand-in for LuminoraCore with its names, signatures and known faults."""
