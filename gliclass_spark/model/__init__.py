"""GLiClass itself: torch and transformers, no Spark."""
