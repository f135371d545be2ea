"""Tables and plots. Imports no torch."""
