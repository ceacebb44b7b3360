"""The job of the `webhook` peer in Python: gives back the JSON that it was called with."""

import json
import sys

print(json.dumps(json.loads(sys.argv[1])))
