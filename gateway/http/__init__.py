"""The API for local systems and the port for operators: thin handlers over `ports.py`."""
