"""One module a command of the terminal: parse, load the config, make one call, print a summary."""
