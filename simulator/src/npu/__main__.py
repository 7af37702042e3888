"""`python -m npu`: the command line."""

import sys

from npu.cli import main

sys.exit(main())
