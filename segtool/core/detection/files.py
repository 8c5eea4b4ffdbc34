"""The files that a detector writes beside the crops."""

# Its weights and training state, and all its detections.
DETECTOR, DETECTIONS = "detector.pt", "detections.json"
