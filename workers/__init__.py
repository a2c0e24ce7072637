"""What runs trials: dispatcher, runner, trial actors on Ray, and the embedded system."""
