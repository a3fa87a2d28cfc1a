"""The terminal explorer: four views of runs and benchmarks, over `explore`. Imports no torch and knows no file format.

`session` is what is looked at and how, `frame` paints it on a canvas of characters, `app` is textual's event loop
around the two; `--once` needs no terminal and paints the same frame.
"""
