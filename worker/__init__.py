"""Celery entry point: thin jobs that fetch, call d3po_core and record."""
