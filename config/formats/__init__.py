"""How operators read dates and times, a module for each language."""
