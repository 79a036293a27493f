"""How the gateway is watched: counts (`metrics`) and log lines (`logs`). Knows records and errors, nothing of HTTP."""
