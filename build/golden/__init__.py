"""Questions with known answers: what a bundle is asked before it may be served."""
