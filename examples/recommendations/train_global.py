"""Alternating least squares over everybody, with Spark, from two random starts; five sweeps a round.

train_global.py SPLIT ROUND: leaves the first model, and both models' predictions for the held-out
ratings, from which one can tell how much of a prediction is chance.
"""

import os
import sys

from pyspark.ml.recommendation import ALS
from pyspark.sql import SparkSession

split, round_number = sys.argv[1], int(sys.argv[2])
target = os.environ["MESON_ARTIFACT_GLOBAL_MODEL"]

spark = SparkSession.builder.getOrCreate()
spark.sparkContext.setCheckpointDir("checkpoints")  # without, every sweep makes the lineage longer
train, test = (
    spark.read.csv(f"file://{split}/{part}.csv", header=True, schema="user INT, movie INT, rating DOUBLE, region STRING")
    for part in ("train", "test")
)
als = ALS(
    userCol="user", itemCol="movie", ratingCol="rating", coldStartStrategy="drop",
    rank=12, regParam=0.2, maxIter=5 * round_number, checkpointInterval=5,
    numUserBlocks=1, numItemBlocks=1,
)
first, second = (als.setSeed(seed).fit(train) for seed in (1, 2))
predictions = first.transform(test)
predictions = second.setPredictionCol("second").transform(predictions)

first.save(f"file://{target}/als")
predictions.coalesce(1).write.csv(f"file://{target}/predictions", header=True)
print(f"round {round_number}: {als.getMaxIter()} sweeps from each of two starts")
spark.stop()
