"""Holds before, settlement after, and the writer that puts charges on the books."""
