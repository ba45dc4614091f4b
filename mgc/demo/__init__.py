"""A small catalogue composed by a synthesiser, for the demo and the tests."""
