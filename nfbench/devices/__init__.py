"""What nfbench needs of a device, and the devices."""
