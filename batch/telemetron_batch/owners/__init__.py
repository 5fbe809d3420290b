"""Find the customers of returns that name none, from claims about the owners of devices."""
