"""`python -m tilewright` is the command `tilewright`."""

from .engine.cli import main

raise SystemExit(main())
