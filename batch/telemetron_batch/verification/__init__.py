"""What customers hold, compared with what a run did."""
