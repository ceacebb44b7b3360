"""``python -m minwebhook`` is the same program as the ``minwebhook`` command."""

from minwebhook.cli.main import main

raise SystemExit(main())
