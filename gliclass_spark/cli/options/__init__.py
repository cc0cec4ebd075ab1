"""Options that commands share, and the Spark session that those of Spark open."""
