"""Celery entry point: thin jobs that fetch, call d3po_core and record."""

import os

# Threads that wait for each other by spinning make a step 40 times slower once another process wants the core (docs/log.md).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
