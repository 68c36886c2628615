"""Many runs, and what is learned from them."""
