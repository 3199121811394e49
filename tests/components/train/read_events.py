"""Run by a Python that has TensorBoard: the scalars below a folder, or a place of S3, as it reads them; JSON.

python read_events.py folder    →  {run: {tag: [[step, value, seconds since 1970], …]}}
"""

import json
import sys

from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

found = EventMultiplexer(size_guidance={"scalars": 0}).AddRunsFromDirectory(sys.argv[1])
found.Reload()
scalars = {
    run: {tag: [(e.step, e.value, e.wall_time) for e in found.Scalars(run, tag)] for tag in tags["scalars"]}
    for run, tags in found.Runs().items()
}
print(json.dumps(scalars))
