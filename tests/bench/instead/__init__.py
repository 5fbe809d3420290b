"""What a user would write instead, each a program of its own: BASE_URL FILE RECORD RATE."""
