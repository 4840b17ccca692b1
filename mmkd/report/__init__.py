"""The report on a teacher, its student alone and its student distilled."""
