"""What processes of one run share."""
