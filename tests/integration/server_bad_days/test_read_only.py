"""Replicas that may not be written: reads work, writes are refused, and work when it is promoted."""
