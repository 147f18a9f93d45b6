"""Datalists, splits, labels and public data sets."""
