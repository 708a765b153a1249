"""The pages of a study, for participants and for those who run it."""
