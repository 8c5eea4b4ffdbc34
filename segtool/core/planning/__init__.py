"""A recipe from what is known of the data, the machine and the time."""
