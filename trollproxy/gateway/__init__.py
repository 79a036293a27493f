"""The life of a request, and the memory it needs. Start at pipeline.py."""
