"""A recorded run again, without its models: is it what its log says, and what would other rules have made of it."""
