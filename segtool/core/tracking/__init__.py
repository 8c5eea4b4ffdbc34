"""Progress of runs, sent to TensorBoard, Weights & Biases or MLflow."""
