"""Published weights: key maps, loading, and encoder records."""
