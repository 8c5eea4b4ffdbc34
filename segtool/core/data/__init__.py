"""Data for training: samples, augmentation and the random choices behind them."""
