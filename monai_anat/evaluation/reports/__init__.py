"""Evaluation pages, tables and pictures."""
