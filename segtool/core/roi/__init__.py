"""Cut crops around objects, and paste their predictions into the full images."""
