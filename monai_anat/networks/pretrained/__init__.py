"""Families of published weights, loading, encoder records, and export."""
