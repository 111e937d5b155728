"""Complete demonstrations, each with its network."""
