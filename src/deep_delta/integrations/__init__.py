"""Models from and to other people's code."""
