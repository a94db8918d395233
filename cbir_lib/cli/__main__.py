"""Run the command as ``python -m cbir_lib.cli``; a job of a study, in its warm process."""

import sys

from cbir_lib.cli import warm

if (code := warm.ask(sys.argv[1:])) is not None:
    sys.exit(code)

from cbir_lib.cli.main import main

main()
