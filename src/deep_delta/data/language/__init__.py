"""A small English of our own: text to train on, and minimal pairs that ask what a model made of it."""
