"""Small tools without a subject of their own: whole writes, processes, progress."""
