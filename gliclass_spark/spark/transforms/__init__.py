"""DataFrame transformations of the pipeline: tagging, filtering, routing, exploration."""
