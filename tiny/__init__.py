"""The tiny base model: the world it is trained on, its training, and its measure."""
