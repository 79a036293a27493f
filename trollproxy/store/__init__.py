"""The books and the callers, kept durably: one file a database, and what they share in words and arithmetic."""
