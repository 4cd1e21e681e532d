"""Triggers, the turn, the gate, promotion, rollback, and the effect of each."""
