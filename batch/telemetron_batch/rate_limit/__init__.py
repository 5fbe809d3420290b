"""Rate limiting: decide when an attempt may leave."""
