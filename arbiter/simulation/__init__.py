"""Simulated model servers and workloads, for deterministic performance results in virtual time."""
