"""DataFrame in, DataFrame out: tagging, filtering, routing, exploration."""
