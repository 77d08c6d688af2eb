"""Models in process, with transformers (the extra ``pocket``). Generators and scorers batch the waiting requests."""
