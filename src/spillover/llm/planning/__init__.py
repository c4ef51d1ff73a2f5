"""What runs will take of a device that need not be here: memory, time and disk, from configurations alone."""
