"""The maths of the losses: pure functions."""
