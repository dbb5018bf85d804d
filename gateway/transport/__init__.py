"""How sealed things travel between nodes: one interface, RabbitMQ and an embedded spool behind it."""
