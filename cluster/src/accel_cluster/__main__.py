"""`python -m accel_cluster`."""

import sys

from accel_cluster.cli import main

sys.exit(main())
