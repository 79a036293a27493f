"""Pure decisions: limits, pools, prices, routes, keys. Time and randomness are passed in; nothing here does I/O."""
