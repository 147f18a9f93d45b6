"""Preparation of a hospital's files: decoding, de-identification, duplicates, shards."""
