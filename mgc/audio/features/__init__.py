"""The features of a window of samples, all from one pass over one STFT."""
