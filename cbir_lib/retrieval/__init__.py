"""Retrieval: distances, exact and approximate search, binary codes."""
