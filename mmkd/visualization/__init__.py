"""Pictures of what is taught and found."""
