"""The engine: takes arrays, paths and the settings group that concerns it; knows no command line and prints nothing."""
