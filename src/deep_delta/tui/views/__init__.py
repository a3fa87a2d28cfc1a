"""The four views, each a function that paints into a rectangle."""
