"""What operators see: logs.py (one JSON line an event) and metrics.py (Prometheus). Never a person's data."""
