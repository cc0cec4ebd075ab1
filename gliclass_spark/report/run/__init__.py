"""The report of a pipeline run: flow of rows, drift of labels, throughput and sample documents."""
