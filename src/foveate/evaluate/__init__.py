"""Scores by published definitions: masks (`davis`) and identities (`identity`) against annotated truth."""
