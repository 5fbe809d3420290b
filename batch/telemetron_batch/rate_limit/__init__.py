"""When an attempt may leave."""
