"""What a choice is worth: trainings or simulations, compared with intervals."""
