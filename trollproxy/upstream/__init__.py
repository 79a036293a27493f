"""The way to the providers: a pool of HTTP/1.1 connections (`client`, `connection`) and name resolution (`dns`).

Foreign network exceptions end here: what leaves this package is a `GatewayError` without host names or addresses.
"""
