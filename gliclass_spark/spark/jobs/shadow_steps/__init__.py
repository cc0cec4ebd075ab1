"""The steps of the shadow job behind the scoring."""
