"""Training of the pocket models. Imports torch and transformers."""
