"""Jobs on Spark: how fast they score, and what a run costs beside that."""
