"""What touches the machine during a run and files a reading; one file each."""
