"""Alternating least squares over everybody, with Spark; more sweeps in every round.

train_global.py SPLIT ROUND: leaves the factors and its predictions for the held-out ratings.
"""

import os
import sys

from pyspark.ml.recommendation import ALS
from pyspark.sql import SparkSession

split, round_number = sys.argv[1], int(sys.argv[2])
target = os.environ["MESON_ARTIFACT_GLOBAL_MODEL"]

spark = SparkSession.builder.appName("global model").getOrCreate()
train, test = (
    spark.read.csv(f"{split}/{part}.csv", header=True, schema="user INT, movie INT, rating DOUBLE, region STRING")
    for part in ("train", "test")
)
als = ALS(
    userCol="user", itemCol="movie", ratingCol="rating",
    rank=8, maxIter=1 + 4 * round_number, regParam=0.15, coldStartStrategy="drop", seed=1,
)
model = als.fit(train)
model.write().save(f"file://{target}/als")
predictions = model.transform(test).select("user", "movie", "rating", "prediction")
predictions.coalesce(1).write.csv(f"file://{target}/predictions", header=True)
print(f"round {round_number}: {predictions.count()} predictions")
spark.stop()
