"""What the library promises, as sentences that can fail."""
