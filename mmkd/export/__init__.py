"""The student as a product."""
