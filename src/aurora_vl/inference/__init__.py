"""Using a backbone with its adapters: encode, match, answer, and export to other tools."""
