"""Evaluation pages, tables and figures."""
