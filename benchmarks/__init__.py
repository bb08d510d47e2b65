"""What the pack costs: each benchmark measures both sides in one run and writes its table here."""
