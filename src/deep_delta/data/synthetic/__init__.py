"""Synthetic tasks whose right answers are known: `synth:TASK`, made as they are needed. Imports no torch."""
