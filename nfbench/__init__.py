"""nfbench: does removing batch normalization pay, on this device?"""

__version__ = "0.1.0"
