"""The book: figures, executed notebooks, and the built site."""
