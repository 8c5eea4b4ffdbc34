"""From records to augmented batches."""
