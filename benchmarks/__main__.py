"""``python -m benchmarks [BASE]``: run every measurement and print one line of JSON for each number."""

import sys

from benchmarks.paired_capture import main

main(*sys.argv[1:])
