"""Data: the sets at hand, a user's own examples, and the order in which training reads them."""
