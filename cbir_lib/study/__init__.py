"""The study: its configuration, its result files, and what is computed from them."""
