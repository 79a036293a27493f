"""What speaks HTTP to clients and people: our server, its operational routes, and the demo provider."""
