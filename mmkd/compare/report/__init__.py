"""The report on a teacher, the baseline and the distilled student."""
