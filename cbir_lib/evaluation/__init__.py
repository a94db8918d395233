"""Evaluation: measures, intervals, tests, classifiers, and the protocol of the comparison."""
