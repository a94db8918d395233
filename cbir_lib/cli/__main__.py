"""Run the command as ``python -m cbir_lib.cli``."""

from cbir_lib.cli.main import main

main()
