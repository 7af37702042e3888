"""`python -m fpga_operator` is `fpga-operator`."""

import sys

from fpga_operator.main import main

sys.exit(main())
