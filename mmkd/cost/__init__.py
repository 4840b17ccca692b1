"""What a detector costs where it runs, and what it finds for that."""
