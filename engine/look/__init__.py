"""Seeing what a network learned: kernels, feature maps, and which parts of a picture a prediction rests on, as one page."""
