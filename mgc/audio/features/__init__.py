"""What is heard in a window of samples: one module a family of features, all from one pass over one STFT."""
