"""The directory: who is who, with which keys, accepting what, under which sharing agreements."""
