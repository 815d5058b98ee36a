"""Families of vision-language backbones behind one seam: load, encode, match, answer."""
