"""Speed and memory of networks, measured with the code that trains and predicts."""
