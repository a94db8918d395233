"""The reproduction: the paper's claims, the verdicts on them, and the verification of results."""
