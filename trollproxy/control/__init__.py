"""What people do with the gateway: accounts, keys, credit. The command line uses it now, the REST API will."""
