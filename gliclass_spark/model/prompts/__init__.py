"""How texts and labels become token ids, for each architecture."""
