"""Kill real processes at random moments and audit every row that is left."""
