"""`python3 -m scripts.dev`: what the Makefile's targets do, with nothing but the standard library."""
