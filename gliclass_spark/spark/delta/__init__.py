"""Delta tables: schemas, the change data feed, commits and idempotent writes."""
