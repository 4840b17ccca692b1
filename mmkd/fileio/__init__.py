"""Files: written whole or not at all, and looked for nearby where one is missing."""
