"""The files that a trained detector leaves beside the crops."""

# Its state while it trains and afterwards, and everything that it has found.
DETECTOR, DETECTIONS = "detector.pt", "detections.json"
