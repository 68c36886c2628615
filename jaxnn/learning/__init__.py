"""Learning: what makes a learner of a learner, the same four functions with something added."""
