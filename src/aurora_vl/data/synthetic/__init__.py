"""The generated world: scenes, drawings, captions, questions, in every benchmark's file layout."""
