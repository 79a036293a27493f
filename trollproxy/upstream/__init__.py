"""The way to the providers: a pool of HTTP/1.1 connections (`client`, `connection`), opened straight or through
outbound proxies (`dial`, `tunnel`), and name resolution (`dns`).

Foreign network exceptions end here: what leaves this package is a `GatewayError` without host names or addresses.
"""
