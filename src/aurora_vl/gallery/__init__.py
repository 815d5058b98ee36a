"""A gallery: an index of a folder of pictures and videos that is searched by what they show."""
