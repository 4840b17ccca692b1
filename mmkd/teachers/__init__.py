"""Teachers: frozen, behind their own preprocessing, and cheap to run."""
