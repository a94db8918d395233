"""The workflow: run the study's graph with Snakemake, and publish its results."""
