"""Heads and decoders of a backbone."""
