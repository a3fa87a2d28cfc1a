"""Pictures made of characters: charts in braille dots, heat maps in half blocks, tables. Knows no run."""
