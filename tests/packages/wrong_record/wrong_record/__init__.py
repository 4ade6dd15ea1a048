"""Nothing is wrong in here."""
