"""Training of the pocket models. Imports torch and transformers (the extra ``train``)."""
