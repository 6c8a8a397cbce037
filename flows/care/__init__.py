"""What people do to data and stores: withdraw, erase, clean up."""
