"""Forecasts the next day from the days before, by a straight line through them.

forecast.py SALES SALES
"""

import json
import os
import sys

regions = [json.loads(argument) for argument in sys.argv[1:]]
days = [sum(day) for day in zip(*regions)]
middle, mean = (len(days) - 1) / 2, sum(days) / len(days)
slope = sum((x - middle) * (y - mean) for x, y in enumerate(days)) / sum(
    (x - middle) ** 2 for x in range(len(days))
)
forecast = round(mean + slope * (len(days) - middle))
print(f"{days}, then {forecast}")
with open(os.environ["MESON_OUTPUT"], "a") as out:
    out.write(f"next={forecast}\n")
