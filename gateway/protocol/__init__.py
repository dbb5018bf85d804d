"""The pure rules: values in, values out. No clock, socket, database, logging or third-party import."""
