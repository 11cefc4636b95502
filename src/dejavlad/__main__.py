"""`python -m dejavlad`."""

import sys

from dejavlad.cli import main

sys.exit(main())
