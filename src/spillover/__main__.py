"""`python -m spillover`."""

from __future__ import annotations

import sys

from spillover.cli import main

sys.exit(main())
