"""Heads and decoders on top of a backbone."""
