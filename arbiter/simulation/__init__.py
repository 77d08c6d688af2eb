"""Simulated model servers and workloads, for exact performance results in virtual time."""
