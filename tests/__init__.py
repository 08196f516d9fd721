"""Mirrors the source. tests/conftest.py holds the databases and the web client, tests/factories/ the rows."""
