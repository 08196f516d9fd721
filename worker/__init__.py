"""Celery entry point: thin jobs that fetch, call d3po_core and record."""

import os

# Threads that wait for each other by spinning long make a step 40 times slower once another process wants the core; threads
# that sleep at once make two slower than one (docs/log.md).
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
