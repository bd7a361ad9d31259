"""Two bundles or servers under the same load, run after run in turn, and what truly differs between them."""
