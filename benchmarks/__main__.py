"""``python -m benchmarks [BASE]``: run every measurement and print one line of JSON for each number.

``python -m benchmarks.geometry_speed`` and ``python -m benchmarks.paired_capture [BASE]`` run a part.
"""

import sys

from benchmarks import geometry_speed, paired_capture

geometry_speed.main()
paired_capture.main(*sys.argv[1:])
