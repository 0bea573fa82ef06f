"""What gpu_acceptance.py is made of."""
