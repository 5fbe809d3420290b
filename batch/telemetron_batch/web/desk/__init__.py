"""What the clerks do: lists, their columns and faulty cells, plans, runs one after the other, and results."""
