"""CLIP, MetaCLIP 2, SigLIP and SigLIP 2: the two-tower models of transformers, for retrieval."""
