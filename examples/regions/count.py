"""Counts a region's sales of the last days.

count.py REGION
"""

import json
import os
import random
import sys

region = sys.argv[1]
# Stands in for a table that may not leave its region.
days = random.Random(region)
sales = [round(days.gauss(200, 20)) + 10 * day for day in range(7)]
print(f"{region}: {sales}")
with open(os.environ["MESON_OUTPUT"], "a") as out:
    out.write(f"sales={json.dumps(sales)}\n")
