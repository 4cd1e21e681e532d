"""The models of one worker: which version answers, called so that no failure spreads."""
